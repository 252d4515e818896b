"""One label of two or more for each text, or for each pair of texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.errors import DataError
from lora_tune.linear import ClassAnswers, LinearAnswers
from lora_tune.metrics import ACCURACY, Measure, softmax
from lora_tune.recipe import DataConfig
from lora_tune.rows import Split
from lora_tune.suggestions import did_you_mean
from lora_tune.tasks.text_task import TextTask, read_inputs
from lora_tune.texts import ROW

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

SHOWN_ROWS = 3  # of those at fault
LINEAR = ClassAnswers()
MOST_CLASSES = 1000  # found in a column; a recipe may name more


@dataclass(frozen=True)
class Prediction:
    """What a model says of one text."""

    label: str
    probabilities: dict[str, float]  # of each label

    def tell(self) -> str:
        """Say the label, and how likely it is."""
        return f"{self.label} {self.probabilities[self.label]:.2f}"

    def cells(self) -> dict[str, Any]:
        """The label, and the probability of each."""
        return {"label": self.label} | {f"p_{name}": p for name, p in self.probabilities.items()}


@dataclass(frozen=True)
class SequenceClassification(TextTask):
    """What sets this task apart from others."""

    name: str = "sequence_classification"
    measure: Measure = ACCURACY
    metrics: tuple[str, ...] = ("accuracy", "macro_f1")
    has_classes: bool = True
    linear: LinearAnswers = LINEAR
    purpose: str = "to tell {labels} apart"
    limits: str = "Every text gets one of these labels, also where none fits."

    def known_labels(self, config: DataConfig) -> list[str] | None:
        """Those that the recipe names."""
        return config.labels

    def find_labels(self, rows: "Dataset", config: DataConfig) -> list[str]:
        """Name the classes in the order of their numbers.

        Raises:
            DataError: the column does not look like one of labels.
        """
        column = config.label
        if config.labels is not None:
            return list(config.labels)
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

    def read_rows(
        self, rows: "Dataset", config: DataConfig, labels: Sequence[str], *, where: str
    ) -> tuple[list[str], list[Any], np.ndarray, list[str]]:
        """Read texts, or pairs of them, and class numbers (rows,)."""
        texts, inputs = read_inputs(rows, config, where=where)
        numbers = self.number_labels(rows, config.label, labels, where=where)
        return texts, inputs, numbers, [labels[number] for number in numbers]

    def loss(
        self,
        logits: "torch.Tensor",
        labels: "torch.Tensor",
        *,
        items: Any,
        smoothing: float,
        weights: "torch.Tensor | None" = None,
    ) -> "torch.Tensor":
        """Cross-entropy of logits (micro-batch, classes) and labels (micro-batch,)."""
        from torch.nn.functional import cross_entropy

        total = cross_entropy(
            logits.float(), labels, weights, reduction="sum", label_smoothing=smoothing
        )
        return total / items

    def decide(self, answers: np.ndarray) -> np.ndarray:
        """The likeliest class's number, (1,)."""
        return answers.argmax(axis=1)

    def count(self, answers: Sequence[np.ndarray], split: Split) -> np.ndarray:
        """Count (right, 1)."""
        right = np.concatenate(answers).argmax(axis=1) == split.rows.labels
        return np.stack([right, np.ones_like(right)], axis=1).astype(float)

    def score(self, answers: Sequence[np.ndarray], split: Split) -> dict[str, float]:
        """Accuracy, macro-F1 and loss."""
        from lora_tune.scoring import classification_metrics  # evaluate takes seconds to import

        return classification_metrics(np.concatenate(answers), split.rows.labels)

    def cell_names(self, labels: Sequence[str]) -> list[str]:
        """The label, and the probability of each."""
        return ["label", *(f"p_{label}" for label in labels)]

    def tell(self, answers: np.ndarray, given: Any, labels: Sequence[str]) -> Prediction:
        """The likeliest label and the probabilities of all."""
        (row,) = softmax(answers)
        return Prediction(labels[row.argmax()], dict(zip(labels, map(float, row), strict=True)))

    def tally(self, labels: np.ndarray, names: Sequence[str]) -> Mapping[str, int]:
        """Rows of each class."""
        return dict(zip(names, np.bincount(labels, minlength=len(names)).tolist(), strict=True))

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
            places = list(rows[ROW])
            shown = ", ".join(f"row {places[i]}: {values[i]!r}" for i in wrong[:SHOWN_ROWS])
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
