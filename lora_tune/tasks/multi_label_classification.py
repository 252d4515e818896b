"""Any of several labels for each text, or for each pair of texts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.config.data import DataConfig
from lora_tune.data.columns import ROW, class_label_names, label_id
from lora_tune.data.rows import Split
from lora_tune.errors import DataError, did_you_mean
from lora_tune.metrics.classification import sigmoid
from lora_tune.metrics.metric import MICRO_F1, Metric, f1_from_sums, precision_recall_f1
from lora_tune.tasks.task import OutputKind
from lora_tune.tasks.text_inputs import TextLabelTask, read_inputs

if TYPE_CHECKING:
    import torch
    from datasets import Dataset


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

    def labels(self, config: DataConfig, rows: "Dataset | None" = None) -> list[str] | None:
        """List the recipe's labels, the column's own, or those found in the rows.

        Raises:
            DataError: there are fewer than two.
        """
        if rows is None:
            return config.labels
        names = config.labels or class_label_names(rows, config.label)
        if names is None:
            found = {str(label) for row in rows[config.label] for label in _split_labels(row) or ()}
            names = sorted(found)
        if len(names) < 2:
            raise DataError(
                f"data.label: column {config.label!r} of train has the labels {list(names)}, "
                "expected lists of at least 2 in all"
            )
        return list(names)

    def read(
        self, rows: "Dataset", config: DataConfig, labels: Sequence[str], *, where: str
    ) -> tuple[list[str], list[Any], np.ndarray, list[str]]:
        """Read texts, or pairs of them, and labels, (rows, labels) of 0 and 1.

        Raises:
            DataError: a row's labels are not a list, or not among the labels.
        """
        texts, inputs = read_inputs(rows, config, where=where)
        own = class_label_names(rows, config.label)
        lists = list(map(_split_labels, rows[config.label]))
        if _is_multi_hot(lists, len(labels)):
            present = np.array(lists, dtype=float)
        else:
            present = np.zeros((len(texts), len(labels)))
            for row, (place, given) in enumerate(zip(rows[ROW], lists, strict=True)):
                here = f"{where}: column {config.label!r}, row {place} (rows count from 0)"
                if given is None or len(set(given)) < len(given):
                    raise DataError(
                        f"{here}: found {rows[config.label][row]!r}, expected a list of labels, "
                        "none twice; or 0 or 1 for each label in every row"
                    )
                for label in given:
                    number = label_id(label, labels, own)
                    if number is None:
                        suggestion = did_you_mean(label, labels) if isinstance(label, str) else ""
                        raise DataError(
                            f"{here}: {label!r} is not among {', '.join(labels)}{suggestion}"
                        )
                    present[row, number] = 1
        written = [
            "; ".join(labels[int(n)] for n in np.flatnonzero(row)) or "none" for row in present
        ]
        return texts, inputs, present, written

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


def _is_multi_hot(rows: Sequence[list[Any] | None], labels: int) -> bool:
    """Whether every row has 0 or 1 for each label."""
    return all(
        row is not None
        and len(row) == labels
        and all(type(x) in (int, bool) and x in (0, 1) for x in row)
        for row in rows
    )


def _split_labels(value: Any) -> list[Any] | None:
    """A row's labels; a text is split at its semicolons, commas or bars."""
    if isinstance(value, str):
        parts = (part.strip() for part in re.split(r"[;,|]", value))
        return [part for part in parts if part]
    return list(value) if isinstance(value, list) else [] if value is None else None


def _confusion_counts(predicted: np.ndarray, true: np.ndarray, *, axis: int) -> np.ndarray:
    """Count (true positives, false positives, false negatives) over rows (0) or labels (1)."""
    sums = [(predicted & true), (predicted & ~true), (~predicted & true)]
    return np.stack([part.sum(axis) for part in sums], axis=1).astype(float)
