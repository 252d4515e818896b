"""Texts, pairs of texts and words tokenized: truncated, not padded, and their tokens counted."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MASK = "attention_mask"
BATCH_ROWS = 1000  # rows per call of the tokenizer
WORD_IDS = "word_ids"  # for each token, the index of its word in the row; -1 for special tokens


def tokenize_texts(
    inputs: Sequence[Any], tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> tuple[dict[str, list[Any]], np.ndarray]:
    """Tokenize rows in batches: truncated, not padded.

    Args:
        inputs: texts, pairs of texts as {text, text_pair}, or words as {text, words: [[start,
            end], ...]}.
        tokenizer: of the model.
        max_length: of a row in tokens, special tokens included.

    Returns:
        The model's inputs, and WORD_IDS where inputs are words, each a list with an item for each
        row; and token counts before truncation, (rows,).
    """
    columns: dict[str, list[Any]] = {}
    counts: list[int] = []
    for start in range(0, len(inputs), BATCH_ROWS):
        batch = list(inputs[start : start + BATCH_ROWS])
        if isinstance(batch[0], dict) and "text_pair" in batch[0]:
            encoded, lengths = _tokenize_pairs(batch, tokenizer, max_length)
        else:
            encoded, lengths = _tokenize_single(batch, tokenizer, max_length)
        counts.extend(lengths)
        for name, values in encoded.items():
            columns.setdefault(name, []).extend(values)
    return columns, np.array(counts)


def _tokenize_single(
    inputs: list[Any], tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> tuple[dict[str, list[Any]], Sequence[int]]:
    has_words = isinstance(inputs[0], dict)
    chunks = tokenizer(
        [item["text"] for item in inputs] if has_words else inputs,
        return_offsets_mapping=has_words,
        truncation=True,
        max_length=max_length,
        return_overflowing_tokens=True,  # tokens that truncation removes, as further chunks
        return_attention_mask=False,  # made below, much faster: without padding it is all ones
    )
    special_tokens = tokenizer.num_special_tokens_to_add()
    rows = np.asarray(chunks.pop("overflow_to_sample_mapping"))  # (chunks,), the row of each
    first_chunks = np.flatnonzero(np.diff(rows, prepend=-1))  # (rows,)
    lengths = np.array([len(ids) - special_tokens for ids in chunks["input_ids"]])
    columns = {name: [values[i] for i in first_chunks] for name, values in chunks.items()}
    if MASK in tokenizer.model_input_names:
        columns[MASK] = [[1] * len(ids) for ids in columns["input_ids"]]
    if has_words:
        offsets = columns.pop("offset_mapping")
        columns[WORD_IDS] = list(map(_find_word_ids, inputs, offsets))
    return columns, np.bincount(rows, weights=lengths).astype(int) + special_tokens


def _find_word_ids(item: dict[str, Any], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Find the index of the word that each token ends in; -1 for special tokens.

    The end counts because some tokenizers let the first token of a word begin with the space before
    it.

    Args:
        item: {text, words}.
        offsets: (start, end) of each token in the text, in characters.
    """
    words = np.full(len(item["text"]), -1)  # (characters,)
    for number, (start, end) in enumerate(item["words"]):
        words[start:end] = number
    return [int(words[end - 1]) if end > start else -1 for start, end in offsets]


def _tokenize_pairs(
    inputs: list[Any], tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> tuple[dict[str, list[Any]], Sequence[int]]:
    first, second = ([pair[name] for pair in inputs] for name in ("text", "text_pair"))
    lengths = [len(ids) for ids in tokenizer(first, second)["input_ids"]]
    # Of a pair that is too long, the longer text is truncated first.
    return dict(tokenizer(first, second, truncation=True, max_length=max_length)), lengths
