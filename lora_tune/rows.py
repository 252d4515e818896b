"""Labelled rows of a split, as they were read and as the model takes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Rows:
    """Labelled rows of one split."""

    name: str
    origin: str  # the split or file that the places count in
    places: list[int]  # of each row in its origin, from 0
    texts: list[str]  # as people read them
    inputs: list[Any]  # as the task encodes them
    labels: np.ndarray  # (rows, ...), as the task counts them
    label_texts: list[str]  # as people read them
    names: list[str]  # of the labels in the order of their numbers; the same for every split

    @property
    def identities(self) -> list[tuple[str, int]]:
        """Origin and place of each row."""
        return [(self.origin, place) for place in self.places]

    def select(self, name: str, indices: Sequence[int]) -> "Rows":
        """Take some of the rows, as a split of another name."""
        return Rows(
            name,
            self.origin,
            [self.places[i] for i in indices],
            [self.texts[i] for i in indices],
            [self.inputs[i] for i in indices],
            self.labels[list(indices)],
            [self.label_texts[i] for i in indices],
            self.names,
        )


@dataclass(frozen=True)
class Split:
    """One split, ready for the model."""

    rows: Rows
    encoded: "Dataset"  # input_ids, attention_mask, ..., labels, length; truncated, not padded
    token_counts: np.ndarray  # (rows,), before truncation
