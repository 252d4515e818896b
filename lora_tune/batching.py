"""Which rows go into a batch, and how they are padded to one length."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.tasks import Task

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedTokenizerBase

MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "labels")


def make_collator(
    tokenizer: "PreTrainedTokenizerBase", task: Task, model: "Module"
) -> Callable[..., Any]:
    """Pad each batch to its own longest row.

    Args:
        model: shifts the labels for its decoder, where it has one of its own.
    """
    import transformers

    options = {"model": model} if task.collator == "DataCollatorForSeq2Seq" else {}
    collator: Callable[..., Any] = getattr(transformers, task.collator)(tokenizer, **options)
    return collator


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
