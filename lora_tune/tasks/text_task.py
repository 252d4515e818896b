"""What tasks share that give one answer for each text, or for each pair of texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.encoding import encode
from lora_tune.errors import DataError
from lora_tune.recipe import DataConfig
from lora_tune.rows import Split
from lora_tune.tasks.task import Rival
from lora_tune.texts import read_texts, text_fault

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TextTask:
    """One answer for each text: a model with a head on top of its pooled features."""

    auto_class: str = "AutoModelForSequenceClassification"
    peft_task_type: str = "SEQ_CLS"
    collator: str = "DataCollatorWithPadding"
    has_head: bool = True
    falling: tuple[str, ...] = ()
    problem_type: str | None = None
    pipeline: str = "text-classification"
    pipeline_options: str = ", truncation=True"

    def columns(self, config: DataConfig) -> list[tuple[str, str]]:
        """The text, its pair where there is one, and the label."""
        pair = [("text_pair", config.text_pair)] if config.text_pair else []
        return [("text", config.text), *pair, ("label", config.label)]

    def encode(
        self,
        inputs: Sequence[Any],
        labels: np.ndarray | None,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
    ) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Tokenise texts or pairs, truncated, not padded."""
        columns, counts = encode(inputs, tokenizer, max_length)
        return columns | ({} if labels is None else {"labels": labels.tolist()}), counts

    def asked_columns(self, config: DataConfig) -> list[str]:
        """The text, and its pair where there is one."""
        return [config.text, *([config.text_pair] if config.text_pair else [])]

    def take_row(
        self, row: Mapping[str, Any], config: DataConfig, tokenizer: "PreTrainedTokenizerBase"
    ) -> Any:
        """Take a text as it is, or a pair as {text, text_pair}."""
        for column, text in row.items():
            fault = text_fault(text)
            if fault:
                raise DataError(f"column {column!r}: {fault}" if len(row) > 1 else fault)
        if not config.text_pair:
            return row[config.text]
        return {"text": row[config.text], "text_pair": row[config.text_pair]}

    def encode_training(
        self,
        inputs: Sequence[Any],
        labels: np.ndarray,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
    ) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Tokenise training rows as all others."""
        return self.encode(inputs, labels, tokenizer, max_length)

    def read(self, logits: "torch.Tensor", labels: "torch.Tensor | None") -> list[np.ndarray]:
        """Keep logits, (1, classes) for each row."""
        return list(logits.cpu().numpy()[:, None])

    def answer_without_model(self, train: Split, test: Split) -> Mapping[str, Rival]:
        """Give none: linear models do."""
        return {}

    def break_down(self, answers: Sequence[np.ndarray], split: Split) -> list[dict[str, Any]]:
        """Give nothing: answers are of no kind."""
        return []


def read_inputs(rows: "Dataset", config: DataConfig, *, where: str) -> tuple[list[str], list[Any]]:
    """Read texts as people read them and as they are encoded; pairs as {text, text_pair}.

    Raises:
        DataError: a row has no text.
    """
    texts = read_texts(rows, config.text, where=where)
    if not config.text_pair:
        return texts, list(texts)
    pairs = list(zip(texts, read_texts(rows, config.text_pair, where=where), strict=True))
    inputs = [{"text": text, "text_pair": pair} for text, pair in pairs]
    return [f"{text}\n{pair}" for text, pair in pairs], inputs
