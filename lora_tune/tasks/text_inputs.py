"""Texts and pairs of texts, for the tasks that label each of them as a whole."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.config.data import DataConfig
from lora_tune.data.columns import fill_text, text_columns
from lora_tune.data.table import Table
from lora_tune.data.tokenization import tokenize_texts
from lora_tune.errors import DataError, RowError
from lora_tune.tasks.task import Task

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


class TextLabelTask(Task):
    """A task with one label, or one set of labels, for each text or pair of texts."""

    def columns(self, config: DataConfig, *, labeled: bool = True) -> list[tuple[str, str]]:
        """The text, its pair where there is one, and the label."""
        columns = [("text", name) for name in text_columns(config.text)]
        if config.text_pair:
            columns += [("text_pair", name) for name in text_columns(config.text_pair)]
        return [*columns, *([("label", config.label)] if labeled else [])]

    def preprocess_row(
        self, row: Mapping[str, Any], config: DataConfig, tokenizer: "PreTrainedTokenizerBase"
    ) -> Any:
        """Take a text as it is, or a pair as {text, text_pair}."""
        if not config.text_pair:
            return fill_text(config.text, row)
        given = {}
        for key, text in (("text", config.text), ("text_pair", config.text_pair)):
            try:
                given[key] = fill_text(text, row)
            except DataError as error:
                raise DataError(f"data.{key} ({text}): {error}") from None
        return given

    def tokenize(
        self,
        inputs: Sequence[Any],
        labels: np.ndarray | None,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
    ) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Tokenize texts or pairs: truncated, not padded."""
        columns, counts = tokenize_texts(inputs, tokenizer, max_length)
        return columns | ({} if labels is None else {"labels": labels.tolist()}), counts

    def extract_outputs(
        self, logits: "torch.Tensor", labels: "torch.Tensor | None"
    ) -> list[np.ndarray]:
        """Keep the logits, (1, classes) for each row."""
        return list(logits.cpu().numpy()[:, None])


def read_inputs(rows: Table, config: DataConfig) -> Iterator[tuple[list[str], list[Any]]]:
    """Read texts as people read them and as they are tokenized; pairs as {text, text_pair}.

    Yields:
        Both for a batch of rows.

    Raises:
        RowError: a row has no text.
    """
    sources = [config.text, *([config.text_pair] if config.text_pair else [])]
    columns = dict.fromkeys(name for text in sources for name in text_columns(text))
    first = 0
    for batch in rows.batches(columns):
        filled: list[list[str]] = [[] for _ in sources]
        for number, cells in enumerate(zip(*batch.values(), strict=True)):
            row = dict(zip(batch, cells, strict=True))
            try:
                for texts, source in zip(filled, sources, strict=True):
                    texts.append(fill_text(source, row))
            except DataError as error:
                raise RowError(first + number, str(error)) from None
        first += len(filled[0])
        if not config.text_pair:
            yield filled[0], filled[0]
            continue
        pairs = list(zip(*filled, strict=True))
        inputs = [{"text": text, "text_pair": pair} for text, pair in pairs]
        yield [f"{text}\n{pair}" for text, pair in pairs], inputs
