"""Any of several labels for each text, or for each pair of texts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.config.data import DataConfig
from lora_tune.data.labels import NUMBER, LabelIds, sort_labels, split_labels
from lora_tune.data.rows import RowBatch, Split
from lora_tune.data.table import Table
from lora_tune.errors import DataError, RowError
from lora_tune.metrics.classification import sigmoid
from lora_tune.metrics.metric import MICRO_F1, Metric, f1_from_sums, precision_recall_f1
from lora_tune.tasks.task import OutputKind, Task
from lora_tune.tasks.text_inputs import TextLabelTask, read_inputs

if TYPE_CHECKING:
    import torch

# Whether a row has a label, as lists of 0 and 1 are written.
FLAGS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "0.": 0, "1.": 1}
FLAGS |= {"false": 0, "true": 1, "False": 0, "True": 1}
# Among which a threshold is chosen.
THRESHOLDS = tuple(float(value) for value in np.arange(5, 100, 5) / 100)


@dataclass(frozen=True)
class LabelsPrediction:
    """The predicted labels of one text."""

    labels: list[str]  # those whose probability reaches the threshold
    probabilities: dict[str, float]  # of each label

    @property
    def label(self) -> str:
        """All predicted labels."""
        return "; ".join(self.labels) or "none"

    def describe(self) -> str:
        """Format all predicted labels and their probabilities."""
        parts = (f"{name} {self.probabilities[name]:.2f}" for name in self.labels)
        return "; ".join(parts) or "none"

    def cells(self) -> dict[str, Any]:
        """All predicted labels, as JSON, and the probability of each label."""
        return {"labels": self.labels} | {f"p_{n}": p for n, p in self.probabilities.items()}


@dataclass(frozen=True)
class MultiLabelClassification(TextLabelTask):
    """Any of several labels for each text, or for each pair of texts."""

    name: str = "multi_label_classification"
    auto_class: str = "AutoModelForSequenceClassification"
    data_keys: tuple[str, ...] = ("text_pair", "labels", "threshold")
    peft_task_type: str = "SEQ_CLS"
    collator: str = "DataCollatorWithPadding"
    output_kind: OutputKind = "labels"
    primary_metric: Metric = MICRO_F1
    metric_names: tuple[str, ...] = ("micro_f1", "macro_f1", "exact")
    problem_type: str = "multi_label_classification"
    threshold: float = 0.5  # of a label's probability
    tunes_threshold: bool = True  # whether `tune` chooses it

    def labels(self, config: DataConfig, tables: Sequence[Table] = ()) -> list[str] | None:
        """List the recipe's labels, the column's own, or those found in the rows.

        Raises:
            DataError: there are fewer than two, or lists of 0 and 1 whose labels have no names.
        """
        if config.labels is not None or not tables:
            return config.labels
        own_names = tables[0].class_names.get(config.label)
        if own_names:
            return list(own_names)
        found: set[str] = set()
        lengths: set[int] = set()
        repeats = False
        for table in tables:
            for given in _read_lists(table, config):
                found.update(given)
                lengths.add(len(given))
                repeats |= len(set(given)) < len(given)
        if found <= set(FLAGS) and (repeats or (len(lengths) == 1 and min(lengths) > 1)):
            raise DataError(
                f"data.label: column {config.label!r} has lists of 0 and 1, one for each label; "
                "name the labels in their order in data.labels"
            )
        if len(found) < 2:
            raise DataError(
                f"data.label: column {config.label!r} of train has the labels {sorted(found)}, "
                "expected lists of at least 2 in all"
            )
        return sort_labels(found)

    def read(self, rows: Table, config: DataConfig, labels: Sequence[str]) -> Iterator[RowBatch]:
        """Read texts, or pairs of them, and labels, (rows, labels) of 0 and 1.

        Raises:
            RowError: a row's labels are not a list, or not among the labels.
        """
        present = _read_multi_hot(rows, config, labels)
        if present is None:
            present = _read_names(rows, config, labels)
        first = 0
        for texts, inputs in read_inputs(rows, config):
            own = present[first : first + len(texts)]
            first += len(texts)
            names = ("; ".join(labels[int(n)] for n in np.flatnonzero(row)) for row in own)
            yield RowBatch(texts, inputs, own, [name or "none" for name in names])

    def label_counts(self, labels: np.ndarray, names: Sequence[str]) -> Mapping[str, int]:
        """Count the rows with each label."""
        return dict(zip(names, labels.sum(axis=0).astype(int).tolist(), strict=True))

    def loss(
        self,
        logits: "torch.Tensor",
        labels: "torch.Tensor",
        *,
        items: Any,
        smoothing: float,
        weights: "torch.Tensor | None" = None,
    ) -> "torch.Tensor":
        """Compute the binary cross-entropy of logits and labels, (micro-batch, labels) both."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        targets = labels.float() * (1 - smoothing) + smoothing / 2
        return binary_cross_entropy_with_logits(logits.float(), targets, reduction="sum") / items

    def metric_counts(self, outputs: Sequence[np.ndarray], split: Split) -> np.ndarray:
        """Count labels (true positives, false positives, false negatives)."""
        return _confusion_counts(*self._predicted_and_true(outputs, split), axis=1)

    def compute_metrics(self, outputs: Sequence[np.ndarray], split: Split) -> dict[str, float]:
        """Compute F1 over all labels, its mean over labels, the share of exact rows, and loss."""
        predicted, true = self._predicted_and_true(outputs, split)
        logits = np.concatenate(outputs).astype(float)
        counts = _confusion_counts(predicted, true, axis=0)
        return {
            "micro_f1": float(f1_from_sums(counts.sum(axis=0))),
            "macro_f1": float(f1_from_sums(counts).mean()),
            "exact": float((predicted == true).all(axis=1).mean()),
            "loss": float((np.logaddexp(0, logits) - true * logits).mean()),
        }

    @property
    def chosen_threshold(self) -> float | None:
        """The probability from which a label is predicted."""
        return self.threshold

    @property
    def has_open_threshold(self) -> bool:
        """Whether the recipe names no threshold."""
        return self.tunes_threshold

    def tune(self, outputs: Sequence[np.ndarray], split: Split) -> Task:
        """Choose the threshold with the highest micro F1 on a split; of equal ones, nearest 0.5.

        Source: Lipton et al. 2014, arXiv 1402.1892: the threshold of the highest F1 is half of that
        F1, so below 0.5.
        """
        if not self.tunes_threshold:
            return self
        probabilities, true = sigmoid(np.concatenate(outputs)), split.rows.labels > 0

        def score(threshold: float) -> tuple[float, float]:
            counts = _confusion_counts(probabilities >= threshold, true, axis=0).sum(axis=0)
            return float(f1_from_sums(counts)), -abs(threshold - 0.5)

        return replace(self, threshold=max(THRESHOLDS, key=score), tunes_threshold=False)

    def metrics_by_group(self, outputs: Sequence[np.ndarray], split: Split) -> list[dict[str, Any]]:
        """Compute precision, recall and F1 of each label."""
        counts = _confusion_counts(*self._predicted_and_true(outputs, split), axis=0)
        return [
            {"label": name, "rows": int(sums[0] + sums[2]), **precision_recall_f1(sums)}
            for name, sums in zip(split.rows.label_names, counts, strict=True)
        ]

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """Whether each label is predicted, (labels,)."""
        return sigmoid(outputs)[0] >= self.threshold

    def format(self, outputs: np.ndarray, given: Any, labels: Sequence[str]) -> LabelsPrediction:
        """The labels whose probability reaches the threshold, and the probabilities of all."""
        (row,) = sigmoid(outputs)
        kept = [name for name, share in zip(labels, row, strict=True) if share >= self.threshold]
        return LabelsPrediction(kept, dict(zip(labels, map(float, row), strict=True)))

    def prediction_columns(self, labels: Sequence[str]) -> list[str]:
        """The predicted labels, and the probability of each label."""
        return ["labels", *(f"p_{label}" for label in labels)]

    def _predicted_and_true(
        self, outputs: Sequence[np.ndarray], split: Split
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predicted and true labels, (rows, labels) of booleans both."""
        predicted = sigmoid(np.concatenate(outputs)) >= self.threshold
        return predicted, split.rows.labels > 0


def _read_multi_hot(rows: Table, config: DataConfig, labels: Sequence[str]) -> np.ndarray | None:
    """Read lists of 0 and 1, (rows, labels); None where not every row has one for each label."""
    if any(map(NUMBER.fullmatch, labels)):
        return None
    present = np.zeros((len(rows), len(labels)))
    for row, given in enumerate(_read_lists(rows, config, labels)):
        if len(given) != len(labels) or not set(given) <= set(FLAGS):
            return None
        present[row] = [FLAGS[flag] for flag in given]
    return present


def _read_names(rows: Table, config: DataConfig, labels: Sequence[str]) -> np.ndarray:
    """Read lists of names, or of IDs if the recipe names the labels, (rows, labels)."""
    texts = {label for given in _read_lists(rows, config, labels) for label in given}
    lookup = LabelIds(
        labels, texts, named=config.labels, column_names=rows.class_names.get(config.label)
    )
    present = np.zeros((len(rows), len(labels)))
    for row, given in enumerate(_read_lists(rows, config, labels)):
        for label in given:
            number = lookup.find(label)
            if number is None:
                raise RowError(
                    row, f"column {config.label!r}: {label!r} is not among {lookup.describe(label)}"
                )
            if present[row, number]:
                raise RowError(
                    row,
                    f"column {config.label!r}: found {label!r} twice, expected a list of labels, "
                    "none twice; or 0 or 1 for each label in every row",
                )
            present[row, number] = 1
    return present


def _read_lists(rows: Table, config: DataConfig, labels: Sequence[str] = ()) -> Iterator[list[str]]:
    for row, cell in enumerate(rows.column(config.label)):
        try:
            yield split_labels(cell, labels)
        except DataError as error:
            raise RowError(row, f"column {config.label!r}: {error}") from None


def _confusion_counts(predicted: np.ndarray, true: np.ndarray, *, axis: int) -> np.ndarray:
    """Count (true positives, false positives, false negatives) over rows (0) or labels (1)."""
    sums = [(predicted & true), (predicted & ~true), (~predicted & true)]
    return np.stack([part.sum(axis) for part in sums], axis=1).astype(float)
