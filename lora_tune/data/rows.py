"""The rows of a split: labeled, and tokenized for a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Rows:
    """Labeled rows of one split. Lists have an item for each row."""

    name: str  # of the split
    origin: str  # the file, or the split of the source, that the rows were read from
    row_numbers: list[int]  # in the origin, from 0
    texts: list[str]  # as people read them
    inputs: list[Any]  # as the task tokenizes them
    labels: np.ndarray  # (rows, ...), as the task encodes them
    label_texts: list[str]  # as people read them
    label_names: list[str]  # in the order of their IDs; the same for every split

    @property
    def row_keys(self) -> list[tuple[str, int]]:
        """Origin and row number of each row, which identify it across splits."""
        return [(self.origin, number) for number in self.row_numbers]

    def select(self, name: str, indices: Sequence[int]) -> "Rows":
        """Select some of the rows.

        Args:
            name: of the split that they become.
            indices: of the rows, from 0.
        """
        return Rows(
            name,
            self.origin,
            [self.row_numbers[i] for i in indices],
            [self.texts[i] for i in indices],
            [self.inputs[i] for i in indices],
            self.labels[list(indices)],
            [self.label_texts[i] for i in indices],
            self.label_names,
        )


@dataclass(frozen=True)
class Split:
    """A tokenized split."""

    rows: Rows
    encoded: "Dataset"  # input_ids, attention_mask, ..., labels, length; truncated, not padded
    token_counts: np.ndarray  # (rows,), in tokens before truncation
