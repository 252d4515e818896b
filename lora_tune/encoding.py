"""Texts as tokens: truncated, not padded, and counted."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ENCODING_ROWS = 1000  # rows given to the tokenizer at once
WORD_IDS = "word_ids"  # of each token, its word's number in its row; -1 for special tokens


def encode(
    inputs: Sequence[Any], tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> tuple[dict[str, list[Any]], np.ndarray]:
    """Tokenise rows in batches: truncated to max_length tokens, not padded.

    Args:
        inputs: texts, pairs of texts as {text, text_pair}, or words as {text, words: [[start,
            end], ...]}.

    Returns:
        The model's inputs, and WORD_IDS for words, a list for each row; and token counts before
        truncation, (rows,).
    """
    columns: dict[str, list[Any]] = {}
    counts: list[int] = []
    for start in range(0, len(inputs), ENCODING_ROWS):
        some = list(inputs[start : start + ENCODING_ROWS])
        if isinstance(some[0], dict) and "text_pair" in some[0]:
            pieces, lengths = _encode_pairs(some, tokenizer, max_length)
        else:
            pieces, lengths = _encode_single(some, tokenizer, max_length)
        counts.extend(lengths)
        for name, values in pieces.items():
            columns.setdefault(name, []).extend(values)
    return columns, np.array(counts)


def _encode_single(
    inputs: list[Any], tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> tuple[dict[str, list[Any]], Sequence[int]]:
    words = isinstance(inputs[0], dict)
    pieces = tokenizer(
        [given["text"] for given in inputs] if words else inputs,
        return_offsets_mapping=words,
        truncation=True,
        max_length=max_length,
        return_overflowing_tokens=True,  # what truncation cut off comes as further pieces
    )
    added = tokenizer.num_special_tokens_to_add()
    owners = np.asarray(pieces.pop("overflow_to_sample_mapping"))
    kept = np.flatnonzero(np.diff(owners, prepend=-1))  # the first piece of each row
    content = np.array([len(ids) - added for ids in pieces["input_ids"]])
    columns = {name: [values[i] for i in kept] for name, values in pieces.items()}
    if words:
        offsets = columns.pop("offset_mapping")
        columns[WORD_IDS] = list(map(_find_words, inputs, offsets))
    return columns, np.bincount(owners, weights=content).astype(int) + added


def _find_words(given: dict[str, Any], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Number the word that each token ends in, by the tokens' offsets (start, end) in the text.

    A tokenizer that counts the space before a word to its first token begins a token too early.
    """
    words = np.full(len(given["text"]), -1)
    for number, (start, end) in enumerate(given["words"]):
        words[start:end] = number
    return [int(words[end - 1]) if end > start else -1 for start, end in offsets]


def _encode_pairs(
    inputs: list[Any], tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> tuple[dict[str, list[Any]], Sequence[int]]:
    first, second = ([pair[name] for pair in inputs] for name in ("text", "text_pair"))
    lengths = [len(ids) for ids in tokenizer(first, second)["input_ids"]]
    # Of a pair that is too long, the longer text is cut first.
    return dict(tokenizer(first, second, truncation=True, max_length=max_length)), lengths
