"""One label of two or more for each text, or for each pair of texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.config.data import DataConfig
from lora_tune.data.columns import ROW
from lora_tune.data.rows import Split
from lora_tune.errors import DataError, did_you_mean
from lora_tune.metrics.classification import classification_metrics, softmax
from lora_tune.metrics.metric import ACCURACY, Metric
from lora_tune.tasks.task import OutputKind
from lora_tune.tasks.text_inputs import TextLabelTask, read_inputs

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

SHOWN_ROWS = 3  # invalid rows named in an error
MAX_CLASSES = 1000  # found in a column; a recipe may name more


@dataclass(frozen=True)
class ClassPrediction:
    """The predicted class of one text."""

    label: str
    probabilities: dict[str, float]  # of each label

    def describe(self) -> str:
        """Format the label and its probability."""
        return f"{self.label} {self.probabilities[self.label]:.2f}"

    def cells(self) -> dict[str, Any]:
        """The label, and the probability of each."""
        return {"label": self.label} | {f"p_{name}": p for name, p in self.probabilities.items()}


@dataclass(frozen=True)
class SequenceClassification(TextLabelTask):
    """One label of two or more for each text, or for each pair of texts."""

    name: str = "sequence_classification"
    auto_class: str = "AutoModelForSequenceClassification"
    data_keys: tuple[str, ...] = ("text_pair", "labels", "class_weights")
    peft_task_type: str = "SEQ_CLS"
    collator: str = "DataCollatorWithPadding"
    output_kind: OutputKind = "class"
    primary_metric: Metric = ACCURACY
    metric_names: tuple[str, ...] = ("accuracy", "macro_f1")

    def labels(self, config: DataConfig, rows: "Dataset | None" = None) -> list[str] | None:
        """List the recipe's labels, the column's own, or those found in the rows.

        Raises:
            DataError: the column does not look like one of labels.
        """
        if config.labels is not None or rows is None:
            return config.labels
        own_names = getattr(rows.features[config.label], "names", None)  # of a ClassLabel
        if own_names:
            return list(own_names)
        values = {_plain(value) for value in rows[config.label] if value is not None}
        if not 1 <= len(values) <= MAX_CLASSES:
            raise DataError(
                f"data.label: column {config.label!r} of train has {len(values)} distinct values, "
                f"expected 2 to {MAX_CLASSES} classes; is it the label column?"
            )
        numeric = all(isinstance(value, int) for value in values)
        return [str(value) for value in sorted(values, key=None if numeric else str)]

    def read(
        self, rows: "Dataset", config: DataConfig, labels: Sequence[str], *, where: str
    ) -> tuple[list[str], list[Any], np.ndarray, list[str]]:
        """Read texts, or pairs of them, and class ids (rows,)."""
        texts, inputs = read_inputs(rows, config, where=where)
        ids = label_ids(rows, config.label, labels, where=where)
        return texts, inputs, ids, [labels[number] for number in ids]

    def label_counts(self, labels: np.ndarray, names: Sequence[str]) -> Mapping[str, int]:
        """Count the rows of each class."""
        return dict(zip(names, np.bincount(labels, minlength=len(names)).tolist(), strict=True))

    def loss(
        self,
        logits: "torch.Tensor",
        labels: "torch.Tensor",
        *,
        items: Any,
        smoothing: float,
        weights: "torch.Tensor | None" = None,
    ) -> "torch.Tensor":
        """Compute the cross-entropy of logits (micro-batch, classes) and labels (micro-batch,)."""
        from torch.nn.functional import cross_entropy

        total = cross_entropy(
            logits.float(), labels, weights, reduction="sum", label_smoothing=smoothing
        )
        return total / items

    def metric_counts(self, outputs: Sequence[np.ndarray], split: Split) -> np.ndarray:
        """Count (correct, 1)."""
        correct = np.concatenate(outputs).argmax(axis=1) == split.rows.labels
        return np.stack([correct, np.ones_like(correct)], axis=1).astype(float)

    def compute_metrics(self, outputs: Sequence[np.ndarray], split: Split) -> dict[str, float]:
        """Compute accuracy, macro-F1 and loss."""
        return classification_metrics(np.concatenate(outputs), split.rows.labels)

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """The id of the most probable class, (1,)."""
        return outputs.argmax(axis=1)

    def format(self, outputs: np.ndarray, given: Any, labels: Sequence[str]) -> ClassPrediction:
        """The most probable label and the probabilities of all."""
        (row,) = softmax(outputs)
        return ClassPrediction(
            labels[row.argmax()], dict(zip(labels, map(float, row), strict=True))
        )

    def prediction_columns(self, labels: Sequence[str]) -> list[str]:
        """The label, and the probability of each."""
        return ["label", *(f"p_{label}" for label in labels)]


def label_ids(rows: "Dataset", column: str, labels: Sequence[str], *, where: str) -> np.ndarray:
    """Turn a label column, of names or else of class ids, into class ids (rows,).

    A value that is the name of a label, as text, means that label; any other whole number counts
    the labels from 0.

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
        suggestion = did_you_mean(value, labels) if isinstance(value, str) else ""
        raise DataError(
            f"{where}: column {column!r}: {len(wrong)} of {len(values)} labels are not among "
            f"{', '.join(labels)} (or their ids, from 0): {shown}{suggestion}"
        )
    return ids


def _plain(value: Any) -> Any:
    """A label's value, hashable: 1.0 and True as they are written, lists as text."""
    if isinstance(value, bool) or value is None:
        return None if value is None else str(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, (int, str)) else str(value)
