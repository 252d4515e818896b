"""One label of two or more for each text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.errors import DataError
from lora_tune.metrics import classification_metrics
from lora_tune.suggestions import did_you_mean

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

SHOWN_ROWS = 3  # of those at fault


@dataclass(frozen=True)
class SequenceClassification:
    """What sets this task apart from others."""

    auto_class: str = "AutoModelForSequenceClassification"  # in transformers
    peft_task_type: str = "SEQ_CLS"
    metric: str = "accuracy"  # the one that a comparison decides by

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
        return classification_metrics(logits, labels)

    def find_labels(self, rows: "Dataset", column: str, names: Sequence[str] | None) -> list[str]:
        """Name the classes in the order of their numbers.

        Args:
            rows: the training rows.
            column: of the labels.
            names: what the recipe says, if it does.
        """
        feature = rows.features[column]
        if names is not None:
            return list(names)
        if hasattr(feature, "names"):  # datasets.ClassLabel
            return list(feature.names)
        values = {value for value in rows[column] if value is not None}
        if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
            # 0 .. highest, so that a number is its own class.
            return [str(number) for number in range(max(int(value) for value in values) + 1)]
        return sorted(str(value) for value in values)

    def number_labels(
        self, values: Sequence[Any], labels: Sequence[str], *, where: str
    ) -> np.ndarray:
        """Turn a label column, of names or of class numbers, into class numbers (rows,).

        Args:
            where: the split and column, for the error.

        Raises:
            DataError: a row has no label, or one that is not among the labels.
        """
        numbers = {name: number for number, name in enumerate(labels)}
        ids = np.full(len(values), -1)
        for row, value in enumerate(values):
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if isinstance(value, (str, bool)):
                ids[row] = numbers.get(str(value), -1)
            elif isinstance(value, int) and 0 <= value < len(labels):
                ids[row] = value
        wrong = np.flatnonzero(ids < 0)
        if len(wrong):
            shown = ", ".join(f"row {row}: {values[row]!r}" for row in wrong[:SHOWN_ROWS])
            value = values[wrong[0]]
            near = did_you_mean(value, labels) if isinstance(value, str) else ""
            raise DataError(
                f"{where}: {len(wrong)} of {len(values)} labels are not among "
                f"{', '.join(labels)} (or their numbers, from 0): {shown}{near}"
            )
        return ids
