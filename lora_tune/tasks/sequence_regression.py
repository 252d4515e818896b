"""A number for each text, or for each pair of texts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.config.data import DataConfig
from lora_tune.data.batching import IGNORE_INDEX
from lora_tune.data.labels import NUMBER
from lora_tune.data.rows import RowBatch, Split
from lora_tune.data.table import Table
from lora_tune.errors import DataError, RowError
from lora_tune.metrics.metric import MEAN_ABSOLUTE_ERROR, Metric
from lora_tune.metrics.regression import regression_metrics
from lora_tune.tasks.task import OutputKind
from lora_tune.tasks.text_inputs import TextLabelTask, read_inputs

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ValuePrediction:
    """The predicted number of one text."""

    value: float

    @property
    def label(self) -> str:
        """The number."""
        return f"{self.value:.4g}"

    def describe(self) -> str:
        """Format the number."""
        return self.label

    def cells(self) -> dict[str, Any]:
        """The number."""
        return {"value": self.value}


@dataclass(frozen=True)
class SequenceRegression(TextLabelTask):
    """A number for each text or pair of texts; its one label is the name of the column."""

    name: str = "sequence_regression"
    auto_class: str = "AutoModelForSequenceClassification"
    data_keys: tuple[str, ...] = ("text_pair",)
    peft_task_type: str = "SEQ_CLS"
    collator: str = "DataCollatorWithPadding"
    output_kind: OutputKind = "value"
    primary_metric: Metric = MEAN_ABSOLUTE_ERROR
    metric_names: tuple[str, ...] = ("mean_absolute_error", "rmse", "pearson", "spearman")
    problem_type: str = "regression"

    def labels(self, config: DataConfig, tables: Sequence[Table] = ()) -> list[str]:
        """The name of the column."""
        return [config.label]

    def read(self, rows: Table, config: DataConfig, labels: Sequence[str]) -> Iterator[RowBatch]:
        """Read texts, or pairs of them, and numbers (rows,).

        Raises:
            RowError: a row has no number.
        """
        cells, first = rows.column(config.label), 0
        for texts, inputs in read_inputs(rows, config):
            values = []
            for number, cell in enumerate(cells[first : first + len(texts)], start=first):
                try:
                    values.append(_parse_number(cell))
                except DataError as error:
                    raise RowError(number, f"column {config.label!r}: {error}") from None
            first += len(texts)
            yield RowBatch(texts, inputs, np.array(values), list(map(repr, values)))

    def loss(
        self,
        logits: "torch.Tensor",
        labels: "torch.Tensor",
        *,
        items: Any,
        smoothing: float,
        weights: "torch.Tensor | None" = None,
    ) -> "torch.Tensor":
        """Compute the squared error of logits (micro-batch, 1) and labels (micro-batch,)."""
        return (logits.float().squeeze(1) - labels.float()).square().sum() / items

    def metric_counts(self, outputs: Sequence[np.ndarray], split: Split) -> np.ndarray:
        """Count (absolute error, 1)."""
        errors = np.abs(np.concatenate(outputs)[:, 0] - split.rows.labels)
        return np.stack([errors, np.ones_like(errors)], axis=1)

    def compute_metrics(self, outputs: Sequence[np.ndarray], split: Split) -> dict[str, float]:
        """Compute the mean absolute error, RMSE, correlations, and the loss, which is the MSE."""
        return regression_metrics(np.concatenate(outputs)[:, 0].astype(float), split.rows.labels)

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """No decisions, (0,): a number changes by degrees."""
        return outputs[:0, 0]

    def format(self, outputs: np.ndarray, given: Any, labels: Sequence[str]) -> ValuePrediction:
        """The number."""
        return ValuePrediction(float(outputs[0, 0]))

    def prediction_columns(self, labels: Sequence[str]) -> list[str]:
        """The number."""
        return ["value"]


def _parse_number(cell: str) -> float:
    if not NUMBER.fullmatch(cell.strip()):
        hint = "; write a decimal point" if NUMBER.fullmatch(cell.strip().replace(",", ".")) else ""
        raise DataError(f"found {cell!r:.60}, expected a number{hint}")
    value = float(cell)
    if value == IGNORE_INDEX:
        raise DataError(f"found {cell}, which marks a missing label; shift or scale the numbers")
    if not np.isfinite(value):
        raise DataError(f"found {cell}, expected a finite number")
    return value
