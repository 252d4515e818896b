"""Texts as tokens: truncated, not padded, and counted."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ENCODING_ROWS = 1000  # texts given to the tokenizer at once


def encode(
    texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> tuple[dict[str, list[Any]], np.ndarray]:
    """Tokenise texts in batches: truncated to max_length tokens, not padded.

    Returns:
        The model's inputs, a list a text; and token counts before truncation, (texts,).
    """
    columns: dict[str, list[Any]] = {}
    counts: list[int] = []
    added = tokenizer.num_special_tokens_to_add()
    for start in range(0, len(texts), ENCODING_ROWS):
        pieces = tokenizer(
            list(texts[start : start + ENCODING_ROWS]),
            truncation=True,
            max_length=max_length,
            return_overflowing_tokens=True,  # what truncation cut off comes as further pieces
        )
        owners = np.asarray(pieces.pop("overflow_to_sample_mapping"))
        kept = np.flatnonzero(np.diff(owners, prepend=-1))  # the first piece of each text
        content = np.array([len(ids) - added for ids in pieces["input_ids"]])
        counts.extend(np.bincount(owners, weights=content).astype(int) + added)
        for name, values in pieces.items():
            columns.setdefault(name, []).extend(values[i] for i in kept)
    return columns, np.array(counts)
