"""One label of two or more for each text, or for each pair of texts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.config.data import DataConfig
from lora_tune.data.labels import LabelIds, sort_labels
from lora_tune.data.rows import RowBatch, Split
from lora_tune.data.table import Table
from lora_tune.errors import DataError
from lora_tune.metrics.classification import classification_metrics, softmax
from lora_tune.metrics.metric import ACCURACY, Metric
from lora_tune.tasks.task import OutputKind
from lora_tune.tasks.text_inputs import TextLabelTask, read_inputs

if TYPE_CHECKING:
    import torch

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
    data_keys: tuple[str, ...] = ("text_pair", "labels", "class_weights", "rare")
    peft_task_type: str = "SEQ_CLS"
    collator: str = "DataCollatorWithPadding"
    output_kind: OutputKind = "class"
    primary_metric: Metric = ACCURACY
    metric_names: tuple[str, ...] = ("accuracy", "macro_f1")

    def labels(self, config: DataConfig, tables: Sequence[Table] = ()) -> list[str] | None:
        """List the recipe's labels, the column's own, or those found in the rows.

        Raises:
            DataError: the column does not look like one of labels.
        """
        if config.labels is not None or not tables:
            return config.labels
        own_names = tables[0].class_names.get(config.label)
        if own_names:
            return list(own_names)
        values = {value for table in tables for value in table.column(config.label)}
        if not 1 <= len(values) <= MAX_CLASSES:
            raise DataError(
                f"data.label: column {config.label!r} of train has {len(values)} distinct values, "
                f"expected 2 to {MAX_CLASSES} classes; is it the label column?"
            )
        return sort_labels(values)

    def read(self, rows: Table, config: DataConfig, labels: Sequence[str]) -> Iterator[RowBatch]:
        """Read texts, or pairs of them, and class ids (rows,)."""
        ids = label_ids(rows, config, labels)
        first = 0
        for texts, inputs in read_inputs(rows, config):
            own = ids[first : first + len(texts)]
            first += len(texts)
            yield RowBatch(texts, inputs, own, [labels[number] for number in own])

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


def label_ids(rows: Table, config: DataConfig, labels: Sequence[str]) -> np.ndarray:
    """Turn the label column into class ids (rows,).

    Raises:
        DataError: a row's label is not among the labels.
    """
    cells = rows.column(config.label)
    lookup = LabelIds(
        labels, cells, named=config.labels, column_names=rows.class_names.get(config.label)
    )
    ids = np.array([-1 if (found := lookup.find(cell)) is None else found for cell in cells])
    wrong = np.flatnonzero(ids < 0)
    if len(wrong):
        shown = ", ".join(f"{rows.place(i)}: {cells[int(i)]!r}" for i in wrong[:SHOWN_ROWS])
        problem = (
            f"column {config.label!r}: {len(wrong)} of {len(ids)} labels are not among "
            f"{lookup.describe(cells[int(wrong[0])])}: {shown}; correct them, or "
        )
        if config.labels is not None:
            raise DataError(f"{problem}add them to data.labels")
        raise DataError(f"{problem}leave out classes that train does not have with data.rare=drop")
    return ids
