"""One label of two or more for each text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.errors import DataError
from lora_tune.suggestions import did_you_mean

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

SHOWN_ROWS = 3  # of those at fault
MOST_CLASSES = 1000  # found in a column; a recipe may name more


@dataclass(frozen=True)
class SequenceClassification:
    """What sets this task apart from others."""

    name: str = "sequence_classification"  # in a recipe
    auto_class: str = "AutoModelForSequenceClassification"  # in transformers
    peft_task_type: str = "SEQ_CLS"
    metric: str = "accuracy"  # the one that a comparison decides by
    metrics: tuple[str, ...] = ("accuracy", "macro_f1")  # of `score`, beside the loss

    def loss(
        self, logits: "torch.Tensor", labels: "torch.Tensor", *, rows: int, smoothing: float
    ) -> "torch.Tensor":
        """Cross-entropy over one micro-batch, as its share of an optimizer step's mean.

        Args:
            logits: (micro-batch, classes).
            labels: (micro-batch,).
            rows: of the whole step, over all its micro-batches.
            smoothing: of labels, from 0 to 1.
        """
        from torch.nn.functional import cross_entropy

        total = cross_entropy(logits.float(), labels, reduction="sum", label_smoothing=smoothing)
        return total / rows

    def score(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Score logits (rows, classes) against labels (rows,)."""
        from lora_tune.scoring import classification_metrics  # evaluate takes seconds to import

        return classification_metrics(logits, labels)

    def find_labels(self, rows: "Dataset", column: str, names: Sequence[str] | None) -> list[str]:
        """Name the classes in the order of their numbers.

        Args:
            rows: the training rows.
            column: of the labels.
            names: what the recipe says, if it does.

        Raises:
            DataError: the column does not look like one of labels.
        """
        if names is not None:
            return list(names)
        own_names = getattr(rows.features[column], "names", None)  # of a datasets.ClassLabel
        if own_names:
            return list(own_names)
        values = {_plain(value) for value in rows[column] if value is not None}
        if not 1 <= len(values) <= MOST_CLASSES:
            raise DataError(
                f"data.label: column {column!r} of train holds {len(values)} distinct values, "
                f"expected 2 to {MOST_CLASSES} classes; is it the column of the labels?"
            )
        numeric = all(isinstance(value, int) for value in values)
        return [str(value) for value in sorted(values, key=None if numeric else str)]

    def number_labels(
        self, rows: "Dataset", column: str, labels: Sequence[str], *, where: str
    ) -> np.ndarray:
        """Turn a label column, of names or else of class numbers, into class numbers (rows,).

        A value that is the name of a label, as text, means that label; any other whole number
        counts the labels from 0.

        Args:
            where: the split, for the error.

        Raises:
            DataError: a row has no label, or one that is not among the labels.
        """
        numbers = {name: number for number, name in enumerate(labels)}
        own_names = getattr(rows.features[column], "names", None)
        values = list(rows[column])
        if own_names and set(own_names) == set(labels):
            values = [None if value in (None, -1) else own_names[value] for value in values]
        ids = np.full(len(values), -1)
        for row, value in enumerate(map(_plain, values)):
            if str(value) in numbers and value is not None:
                ids[row] = numbers[str(value)]
            elif isinstance(value, int) and 0 <= value < len(labels):
                ids[row] = value
        wrong = np.flatnonzero(ids < 0)
        if len(wrong):
            shown = ", ".join(f"row {row}: {values[row]!r}" for row in wrong[:SHOWN_ROWS])
            value = values[wrong[0]]
            near = did_you_mean(value, labels) if isinstance(value, str) else ""
            raise DataError(
                f"{where}: column {column!r}: {len(wrong)} of {len(values)} labels are not among "
                f"{', '.join(labels)} (or their numbers, from 0): {shown}{near}"
            )
        return ids


def _plain(value: Any) -> Any:
    """A label's value, hashable: 1.0 and True as they are written, lists as text."""
    if isinstance(value, bool) or value is None:
        return None if value is None else str(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, (int, str)) else str(value)
