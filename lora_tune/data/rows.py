"""The rows of a split: labeled, and tokenized for a model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lora_tune.data.arrow_store import select_rows

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = ("train", "validation", "test")


class RowBatch(NamedTuple):
    """Consecutive rows, read by a task."""

    texts: list[str]  # as people read them
    inputs: list[Any]  # as the task tokenizes them
    labels: np.ndarray  # (rows, ...), as the task encodes them
    label_texts: list[str]  # as people read them


@dataclass(frozen=True)
class Rows:
    """Labeled rows of one split. Sequences have an item for each row, and may be on disk."""

    name: str  # of the split
    origin: str  # the file, or the split of the source, that the rows were read from
    row_numbers: Sequence[int]  # in the origin, from 0
    texts: Sequence[str]  # as people read them
    inputs: Sequence[Any]  # as the task tokenizes them
    labels: np.ndarray  # (rows, ...), as the task encodes them
    label_texts: Sequence[str]  # as people read them
    label_names: list[str]  # in the order of their IDs; the same for every split
    ids: Sequence[str | None] | None = None  # of `data.id`; None where the recipe names no column

    @property
    def row_keys(self) -> list[tuple[str, int]]:
        """Origin and row number of each row, which identify it across splits."""
        return [(self.origin, number) for number in self.row_numbers]

    def select(self, name: str, indices: Sequence[int] | np.ndarray) -> "Rows":
        """Select some of the rows.

        Args:
            name: of the split that they become.
            indices: of the rows, from 0.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            name=name,
            row_numbers=np.asarray(self.row_numbers, dtype=np.int64)[chosen].tolist(),
            texts=select_rows(self.texts, chosen),
            inputs=select_rows(self.inputs, chosen),
            labels=self.labels[chosen],
            label_texts=select_rows(self.label_texts, chosen),
            ids=None if self.ids is None else select_rows(self.ids, chosen),
        )


def join_rows(name: str, first: Rows, second: Rows) -> Rows:
    """Join the rows of two splits of one source.

    Args:
        name: of the split that they become.
    """
    ids = None if first.ids is None or second.ids is None else [*first.ids, *second.ids]
    return replace(
        first,
        name=name,
        row_numbers=[*first.row_numbers, *second.row_numbers],
        texts=[*first.texts, *second.texts],
        inputs=[*first.inputs, *second.inputs],
        labels=np.concatenate([first.labels, second.labels]),
        label_texts=[*first.label_texts, *second.label_texts],
        ids=ids,
    )


@dataclass(frozen=True)
class Split:
    """A tokenized split."""

    rows: Rows
    encoded: "Dataset"  # input_ids, attention_mask, ..., labels, length; truncated, not padded
    token_counts: np.ndarray  # (rows,), in tokens before truncation


def join_splits(first: Split, second: Split) -> Split:
    """Join two splits to one with the name of the first."""
    from datasets import concatenate_datasets

    return Split(
        join_rows(first.rows.name, first.rows, second.rows),
        concatenate_datasets([first.encoded, second.encoded]),
        np.concatenate([first.token_counts, second.token_counts]),
    )
