"""A number for each text, or for each pair of texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.errors import DataError
from lora_tune.linear import LinearAnswers, ValueAnswers
from lora_tune.metrics import MEAN_ABSOLUTE_ERROR, Measure
from lora_tune.recipe import DataConfig
from lora_tune.rows import Split
from lora_tune.tasks.task import IGNORED
from lora_tune.tasks.text_task import TextTask, read_inputs
from lora_tune.texts import ROW

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

LINEAR = ValueAnswers()


@dataclass(frozen=True)
class Value:
    """What a model says of one text."""

    value: float

    @property
    def label(self) -> str:
        """The number."""
        return f"{self.value:.4g}"

    def tell(self) -> str:
        """Say the number."""
        return self.label

    def cells(self) -> dict[str, Any]:
        """The number."""
        return {"value": self.value}


@dataclass(frozen=True)
class SequenceRegression(TextTask):
    """What sets this task apart from others; its one label is the name of the column."""

    name: str = "sequence_regression"
    measure: Measure = MEAN_ABSOLUTE_ERROR
    metrics: tuple[str, ...] = ("mean_absolute_error", "rmse", "pearson", "spearman")
    falling: tuple[str, ...] = ("mean_absolute_error", "rmse")
    problem_type: str = "regression"
    has_classes: bool = False
    linear: LinearAnswers = LINEAR
    purpose: str = "to give a text a number ({labels})"
    limits: str = "Every text gets a number, also where none fits."

    def known_labels(self, config: DataConfig) -> list[str]:
        """The column."""
        return [config.label]

    def find_labels(self, rows: "Dataset", config: DataConfig) -> list[str]:
        """The column."""
        return [config.label]

    def read_rows(
        self, rows: "Dataset", config: DataConfig, labels: Sequence[str], *, where: str
    ) -> tuple[list[str], list[Any], np.ndarray, list[str]]:
        """Read texts, or pairs of them, and numbers (rows,).

        Raises:
            DataError: a row has none.
        """
        texts, inputs = read_inputs(rows, config, where=where)
        values = []
        for place, found in zip(rows[ROW], rows[config.label], strict=True):
            value = _read(found)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if number and value == IGNORED:
                raise DataError(
                    f"{where}: column {config.label!r}, row {place} (rows count from 0): found "
                    f"{value}, which marks what has no label; shift or scale the numbers"
                )
            if not number or not np.isfinite(value):
                raise DataError(
                    f"{where}: column {config.label!r}, row {place} (rows count from 0): found "
                    f"{found!r}, expected a number"
                )
            values.append(float(value))
        return texts, inputs, np.array(values), list(map(repr, values))

    def loss(
        self,
        logits: "torch.Tensor",
        labels: "torch.Tensor",
        *,
        items: Any,
        smoothing: float,
        weights: "torch.Tensor | None" = None,
    ) -> "torch.Tensor":
        """Squared error of logits (micro-batch, 1) and labels (micro-batch,)."""
        return (logits.float().squeeze(1) - labels.float()).square().sum() / items

    def decide(self, answers: np.ndarray) -> np.ndarray:
        """Decide nothing, (0,): a number changes by degrees."""
        return answers[:0, 0]

    def count(self, answers: Sequence[np.ndarray], split: Split) -> np.ndarray:
        """Count (absolute error, 1)."""
        errors = np.abs(np.concatenate(answers)[:, 0] - split.rows.labels)
        return np.stack([errors, np.ones_like(errors)], axis=1)

    def score(self, answers: Sequence[np.ndarray], split: Split) -> dict[str, float]:
        """Mean absolute error, root of the mean squared error, correlations, and loss."""
        from scipy.stats import pearsonr, spearmanr

        told, true = np.concatenate(answers)[:, 0].astype(float), split.rows.labels
        varied = len(told) > 1 and np.ptp(told) > 0 and np.ptp(true) > 0  # else there is none
        squared = float(((told - true) ** 2).mean())
        return {
            "mean_absolute_error": float(np.abs(told - true).mean()),
            "rmse": squared**0.5,
            "pearson": float(pearsonr(told, true).statistic) if varied else 0.0,
            "spearman": float(spearmanr(told, true).statistic) if varied else 0.0,
            "loss": squared,
        }

    def cell_names(self, labels: Sequence[str]) -> list[str]:
        """The number."""
        return ["value"]

    def tell(self, answers: np.ndarray, given: Any, labels: Sequence[str]) -> Value:
        """The number."""
        return Value(float(answers[0, 0]))

    def tally(self, labels: np.ndarray, names: Sequence[str]) -> Mapping[str, int]:
        """Count nothing: numbers are of no class."""
        return {}


def _read(value: Any) -> Any:
    """A number that is written as text, as in a column where some other row holds no number."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
