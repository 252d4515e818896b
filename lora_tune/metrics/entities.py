"""Entities: read from BIO tags, counted, and returned as spans of a text."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lora_tune.metrics.metric import f1_from_sums

OUTSIDE = "O"
Entity = tuple[str, int, int]  # type, first word, word after the last


@dataclass(frozen=True)
class Span:
    """A span of a text, such as an entity or an answer; empty where the text has none."""

    type: str
    text: str
    start: int  # offset of its first character in the text
    end: int  # offset after its last character
    probability: float  # of an entity, that of its first word's tag

    @property
    def label(self) -> str:
        """The text of the span."""
        return self.text or "none"

    def describe(self) -> str:
        """Format the text of the span and its probability."""
        return f"{self.label} {self.probability:.2f}"

    def cells(self) -> dict[str, Any]:
        """The text of the span, in a column with the name of its type, and the other fields."""
        fields = asdict(self)
        return {fields.pop("type"): fields.pop("text"), **fields}


@dataclass(frozen=True)
class Entities:
    """The entities of one text."""

    spans: list[Span]

    @property
    def label(self) -> str:
        """All spans and their types."""
        return "; ".join(f"{span.text}: {span.type}" for span in self.spans) or "none"

    def describe(self) -> str:
        """Format all spans and their types."""
        return self.label

    def cells(self) -> dict[str, Any]:
        """All spans, as JSON."""
        return {"entities": [asdict(span) for span in self.spans]}


def entities_from_tags(tags: Sequence[str]) -> list[Entity]:
    """Read entities from BIO tags as conlleval does: an I- that continues nothing begins one.

    Source: Tjong Kim Sang & De Meulder 2003, "Introduction to the CoNLL-2003 Shared Task".
    """
    found: list[Entity] = []
    start, kind = 0, ""
    for at, tag in enumerate([*tags, OUTSIDE]):
        own = "" if tag == OUTSIDE else tag[2:]
        if kind and (own != kind or tag.startswith("B-")):
            found.append((kind, start, at))
            kind = ""
        if own and not kind:
            start, kind = at, own
    return found


def count_entities(true: set[Entity], predicted: set[Entity]) -> tuple[int, int, int]:
    """Count (true positives, false positives, false negatives); type and borders must match."""
    return len(true & predicted), len(predicted - true), len(true - predicted)


def entity_metrics(sums: np.ndarray) -> dict[str, float]:
    """Compute F1, precision and recall over entities; 0 where undefined.

    Args:
        sums: (3,), what `count_entities` counts, summed over rows.
    """
    true, false, missed = map(float, sums)
    return {
        "entity_f1": float(f1_from_sums(np.asarray(sums))),
        "precision": true / (true + false) if true + false else 0.0,
        "recall": true / (true + missed) if true + missed else 0.0,
    }


def entities_in_text(
    given: Mapping[str, Any], tags: Sequence[str], probabilities: np.ndarray | None = None
) -> Entities:
    """Find the spans that the tags of a text's first words mean.

    Args:
        given: {text, words}.
        probabilities: (words,), of each tag; None for 1.
    """
    spans = []
    for kind, first, after in entities_from_tags(tags):
        start, end = given["words"][first][0], given["words"][after - 1][1]
        probability = 1.0 if probabilities is None else float(probabilities[first])
        spans.append(Span(kind, given["text"][start:end], start, end, probability))
    return Entities(spans)
