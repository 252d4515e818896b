"""Texts and pairs of texts, for the tasks that label each of them as a whole."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.config.data import DataConfig
from lora_tune.data.columns import read_texts, text_problem
from lora_tune.data.tokenization import tokenize_texts
from lora_tune.errors import DataError
from lora_tune.tasks.task import Task

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


class TextLabelTask(Task):
    """A task with one label, or one set of labels, for each text or pair of texts."""

    def columns(self, config: DataConfig, *, labeled: bool = True) -> list[tuple[str, str]]:
        """The text, its pair where there is one, and the label."""
        pair = [("text_pair", config.text_pair)] if config.text_pair else []
        return [("text", config.text), *pair, *([("label", config.label)] if labeled else [])]

    def preprocess_row(
        self, row: Mapping[str, Any], config: DataConfig, tokenizer: "PreTrainedTokenizerBase"
    ) -> Any:
        """Take a text as it is, or a pair as {text, text_pair}."""
        for column, text in row.items():
            problem = text_problem(text)
            if problem:
                raise DataError(f"column {column!r}: {problem}" if len(row) > 1 else problem)
        if not config.text_pair:
            return row[config.text]
        return {"text": row[config.text], "text_pair": row[config.text_pair]}

    def tokenize(
        self,
        inputs: Sequence[Any],
        labels: np.ndarray | None,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
        *,
        training: bool = False,
    ) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Tokenize texts or pairs: truncated, not padded."""
        columns, counts = tokenize_texts(inputs, tokenizer, max_length)
        return columns | ({} if labels is None else {"labels": labels.tolist()}), counts

    def extract_outputs(
        self, logits: "torch.Tensor", labels: "torch.Tensor | None"
    ) -> list[np.ndarray]:
        """Keep the logits, (1, classes) for each row."""
        return list(logits.cpu().numpy()[:, None])


def read_inputs(rows: "Dataset", config: DataConfig, *, where: str) -> tuple[list[str], list[Any]]:
    """Read texts as people read them and as they are tokenized; pairs as {text, text_pair}.

    Raises:
        DataError: a row has no text.
    """
    texts = read_texts(rows, config.text, where=where)
    if not config.text_pair:
        return texts, list(texts)
    pairs = list(zip(texts, read_texts(rows, config.text_pair, where=where), strict=True))
    inputs = [{"text": text, "text_pair": pair} for text, pair in pairs]
    return [f"{text}\n{pair}" for text, pair in pairs], inputs
