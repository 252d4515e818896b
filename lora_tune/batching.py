"""Which rows go into a batch, and how they are padded to one length."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "labels")


def make_collator(tokenizer: "PreTrainedTokenizerBase") -> "DataCollatorWithPadding":
    """Pad each batch to its own longest row."""
    from transformers import DataCollatorWithPadding

    return DataCollatorWithPadding(tokenizer)


def batches_by_length(lengths: Sequence[int], batch_size: int) -> Iterator[np.ndarray]:
    """Batch rows of like length, the longest first, so that little is padded.

    Yields:
        Row numbers, at most batch_size at once; every row once.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def model_inputs(columns: dict[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Turn columns into rows that hold what a model takes."""
    names = [name for name in MODEL_INPUTS if name in columns]
    return [
        dict(zip(names, row, strict=True)) for row in zip(*map(columns.get, names), strict=True)
    ]
