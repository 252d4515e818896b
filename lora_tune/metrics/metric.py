"""Metrics as functions of sums over rows, so that rows can be resampled and compared in pairs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Metric:
    """A metric that is computed from counts which each row adds to."""

    name: str
    from_sums: Callable[[np.ndarray], np.ndarray]  # sums over rows, (..., counts) -> (...)
    is_proportion: bool = True  # from 0 to 1; differences are shown in points of 100
    lower_is_better: bool = False

    @property
    def title(self) -> str:
        """Its name with spaces."""
        return self.name.replace("_", " ")

    def format_difference(self, difference: float) -> str:
        """Format a difference without its sign."""
        if self.is_proportion:
            return f"{100 * abs(difference):.1f} points"
        return f"{abs(difference):.3g} in {self.title}"

    def format_interval(self, low: float, high: float) -> str:
        """Format an interval of differences."""
        if self.is_proportion:
            return f"{100 * low:.1f} to {100 * high:.1f}"
        return f"{low:.3g} to {high:.3g}"


def mean_from_sums(sums: np.ndarray) -> np.ndarray:
    """The first sum divided by the second; counts are (value, 1) for a mean over rows."""
    return sums[..., 0] / sums[..., 1]


def exp_mean_from_sums(sums: np.ndarray) -> np.ndarray:
    """The exponential of the first sum divided by the second, as of nats and tokens."""
    return np.exp(sums[..., 0] / sums[..., 1])


def f1_from_sums(sums: np.ndarray) -> np.ndarray:
    """F1 of (true positives, false positives, false negatives); 0 where all are 0."""
    true, false, missed = (sums[..., i] for i in range(3))
    whole = 2 * true + false + missed
    return np.divide(2 * true, whole, out=np.zeros_like(whole, dtype=float), where=whole > 0)


def precision_recall_f1(sums: np.ndarray) -> dict[str, float | None]:
    """Precision, recall and F1 of (true positives, false positives, false negatives).

    Returns:
        By name; None where the denominator is 0.
    """
    true, false, missed = map(float, sums)
    return {
        "precision": true / (true + false) if true + false else None,
        "recall": true / (true + missed) if true + missed else None,
        "f1": float(f1_from_sums(sums)) if sums.any() else None,
    }


ACCURACY = Metric("accuracy", mean_from_sums)
ENTITY_F1 = Metric("entity_f1", f1_from_sums)
MICRO_F1 = Metric("micro_f1", f1_from_sums)
MEAN_ABSOLUTE_ERROR = Metric(
    "mean_absolute_error", mean_from_sums, is_proportion=False, lower_is_better=True
)
PERPLEXITY = Metric("perplexity", exp_mean_from_sums, is_proportion=False, lower_is_better=True)
# Of all metrics that a task computes, those where less is better.
LOWER_IS_BETTER = frozenset({"loss", "perplexity", "bits_per_byte", "mean_absolute_error", "rmse"})
