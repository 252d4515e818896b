"""Entities in a text: read from BIO tags, and told as spans."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

OUTSIDE = "O"
APOSTROPHES = "'\u2019"
# Of a text that nobody has cut into words.
WORD = re.compile(rf"[@#]?\w+(?:[{APOSTROPHES}.-]\w+)*|[^\w\s]")


@dataclass(frozen=True)
class Span:
    """An entity in a text."""

    type: str
    text: str
    start: int  # of its first character in the text, from 0
    end: int  # after its last
    probability: float  # of its first word's tag


@dataclass(frozen=True)
class Entities:
    """What a model finds in one text."""

    spans: list[Span]

    @property
    def label(self) -> str:
        """All spans and their types."""
        return "; ".join(f"{span.text}: {span.type}" for span in self.spans) or "none"

    def tell(self) -> str:
        """Say all spans and their types."""
        return self.label

    def cells(self) -> dict[str, Any]:
        """All spans, as JSON."""
        return {"entities": [asdict(span) for span in self.spans]}


def find_entities(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Read entities from BIO tags as conlleval does: an I- that continues nothing begins one.

    Source: Tjong Kim Sang & De Meulder 2003, "Introduction to the CoNLL-2003 Shared Task".

    Returns:
        (type, first word, word after the last) of each.
    """
    found: list[tuple[str, int, int]] = []
    start, kind = 0, ""
    for at, tag in enumerate([*tags, OUTSIDE]):
        own = "" if tag == OUTSIDE else tag[2:]
        if kind and (own != kind or tag.startswith("B-")):
            found.append((kind, start, at))
            kind = ""
        if own and not kind:
            start, kind = at, own
    return found


def cut_words(text: str) -> dict[str, Any]:
    """Cut a text into words and punctuation: {text, words: [[start, end], ...]}."""
    return {"text": text, "words": [list(found.span()) for found in WORD.finditer(text)]}


def words_of(given: Mapping[str, Any]) -> list[str]:
    """The words of {text, words}."""
    return [given["text"][start:end] for start, end in given["words"]]


def join_words(words: Sequence[str]) -> dict[str, Any]:
    """Make {text, words} of words, with a space between them."""
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    places = [[int(end) - len(word), int(end)] for word, end in zip(words, ends, strict=True)]
    return {"text": " ".join(words), "words": places}


def fill_words(given: Mapping[str, Any], numbers: Iterable[int]) -> dict[str, Any]:
    """Put full stops in the place of some words of {text, words}."""
    text = given["text"]
    for start, end in (given["words"][number] for number in numbers):
        text = text[:start] + "." * (end - start) + text[end:]
    return {"text": text, "words": given["words"]}


def describe_tags(
    given: Mapping[str, Any], tags: Sequence[str], shares: np.ndarray | None = None
) -> Entities:
    """Tell the spans that the tags of a text's first words mean.

    Args:
        given: {text, words}.
        shares: (words,), how likely each tag is; None: sure.
    """
    spans = []
    for kind, first, after in find_entities(tags):
        start, end = given["words"][first][0], given["words"][after - 1][1]
        sure = 1.0 if shares is None else float(shares[first])
        spans.append(Span(kind, given["text"][start:end], start, end, sure))
    return Entities(spans)
