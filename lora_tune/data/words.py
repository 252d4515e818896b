"""Texts with the offsets of their words: {text, words: [[start, end], ...]}, in characters."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lora_tune.data.segmentation import find_words_and_marks


def split_words(text: str) -> dict[str, Any]:
    """Split a text into words, emoji and punctuation marks."""
    return {"text": text, "words": [list(span) for span in find_words_and_marks(text)]}


def join_words(words: Sequence[str]) -> dict[str, Any]:
    """Join words with a space between them."""
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    offsets = [[int(end) - len(word), int(end)] for word, end in zip(words, ends, strict=True)]
    return {"text": " ".join(words), "words": offsets}


def words_of(item: Mapping[str, Any]) -> list[str]:
    """List the words of {text, words}."""
    return [item["text"][start:end] for start, end in item["words"]]


def mask_words(item: Mapping[str, Any], numbers: Iterable[int]) -> dict[str, Any]:
    """Replace words by full stops of the same length.

    Args:
        item: {text, words}.
        numbers: indices of the words to replace.
    """
    text = item["text"]
    for start, end in (item["words"][number] for number in numbers):
        text = text[:start] + "." * (end - start) + text[end:]
    return {"text": text, "words": item["words"]}
