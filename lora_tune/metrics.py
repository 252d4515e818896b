"""Pure functions on arrays, and the measures that a comparison can decide by."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Measure:
    """A metric made of sums over rows, so that rows can be drawn anew and compared in pairs."""

    name: str
    of: Callable[[np.ndarray], np.ndarray]  # sums over rows, (..., counts) -> (...)
    is_share: bool = True  # from 0 to 1, told in points of 100
    lower_is_better: bool = False

    def tell(self, difference: float) -> str:
        """Write a difference without its sign."""
        if self.is_share:
            return f"{100 * abs(difference):.1f} points"
        return f"{abs(difference):.3g} in {self.title}"

    def span(self, low: float, high: float) -> str:
        """Write an interval of differences."""
        if self.is_share:
            return f"{100 * low:.1f} to {100 * high:.1f}"
        return f"{low:.3g} to {high:.3g}"

    @property
    def title(self) -> str:
        """Its name, as it is read."""
        return self.name.replace("_", " ")


def mean_of(sums: np.ndarray) -> np.ndarray:
    """The first count for each of the second; counts are (value, 1) for a mean over rows."""
    return sums[..., 0] / sums[..., 1]


def f1_of(sums: np.ndarray) -> np.ndarray:
    """F1 of (true positives, false positives, false negatives); 0 where there is none of them."""
    true, false, missed = (sums[..., i] for i in range(3))
    whole = 2 * true + false + missed
    return np.divide(2 * true, whole, out=np.zeros_like(whole, dtype=float), where=whole > 0)


def score_sums(sums: np.ndarray) -> dict[str, float | None]:
    """Precision, recall and F1 of (true positives, false positives, false negatives).

    Returns:
        By name; None where there is nothing to count.
    """
    true, false, missed = map(float, sums)
    return {
        "precision": true / (true + false) if true + false else None,
        "recall": true / (true + missed) if true + missed else None,
        "f1": float(f1_of(sums)) if sums.any() else None,
    }


def exp_mean_of(sums: np.ndarray) -> np.ndarray:
    """The exponential of the first count for each of the second, as of nats and tokens."""
    return np.exp(sums[..., 0] / sums[..., 1])


ACCURACY = Measure("accuracy", mean_of)
ENTITY_F1 = Measure("entity_f1", f1_of)
MICRO_F1 = Measure("micro_f1", f1_of)
MEAN_ABSOLUTE_ERROR = Measure("mean_absolute_error", mean_of, is_share=False, lower_is_better=True)
PERPLEXITY = Measure("perplexity", exp_mean_of, is_share=False, lower_is_better=True)
MEASURES = {
    measure.name: measure
    for measure in (ACCURACY, ENTITY_F1, MICRO_F1, MEAN_ABSOLUTE_ERROR, PERPLEXITY)
}


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log softmax(logits)[label] in nats; logits (rows, classes), labels (rows,)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logits (rows, classes) into probabilities of the same shape."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
