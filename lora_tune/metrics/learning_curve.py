"""The trend of a learning curve: how a metric changes with each doubling of the training rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lora_tune.metrics.metric import Metric
from lora_tune.metrics.statistics import CONFIDENCE

RESAMPLES = 2000
MAX_DRAWN = 20_000_000  # numbers at once


@dataclass(frozen=True)
class Trend:
    """A line through the points of a learning curve, over the logarithm of the rows."""

    slope: float  # of the metric, for each doubling of the rows
    interval: tuple[float, float]  # of the slope, at CONFIDENCE

    def direction(self, metric: Metric) -> int:
        """1: the metric improves with the rows, -1: it gets worse, 0: neither is clear."""
        low, high = self.interval
        rises = int(low > 0) - int(high < 0)
        return -rises if metric.lower_is_better else rises


def upper_half(points: int) -> int:
    """The first point of the upper half of a learning curve, which has at least two."""
    return points - max(2, (points + 1) // 2)


def fit_trends(
    rows: Sequence[int], counts: Sequence[np.ndarray], metric: Metric
) -> tuple[Trend, Trend]:
    """Fit a line through all points, and through the upper half of them.

    The line is of ordinary least squares over log2(rows). The standard error of its slope comes
    from the covariance of the points by a bootstrap of their common test rows. Where the points
    scatter about the line, or from five points on about a parabola, more than the test rows
    explain, because of the chance in each training, it is multiplied by the ratio of the two, and
    the quantile is that of t with the degrees of freedom of this sum of variances. Two points show
    no scatter.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 6 (standard
    errors); Birge 1932, "The Calculation of Errors by the Method of Least Squares" (the ratio);
    Satterthwaite 1946, "An Approximate Distribution of Estimates of Variance Components".

    Args:
        rows: numbers of training rows, at least two, ascending.
        counts: of each point, what each test row adds to the metric, (test rows, counts).
        metric: computed from them.

    Returns:
        The trends.
    """
    from scipy.stats import norm, t

    values = np.array([metric.from_sums(own.sum(axis=0)) for own in counts], dtype=float)
    covariance = _covariance(counts, metric)
    doublings = np.log2(np.asarray(rows, dtype=float))
    degree = 1 if len(rows) < 5 else 2
    design = np.vander(doublings - doublings.mean(), degree + 1)  # (points, degree + 1)
    residual_maker = np.eye(len(rows)) - design @ np.linalg.pinv(design)
    residuals = residual_maker @ values
    expected = np.trace(residual_maker @ covariance @ residual_maker)
    chance = (1 + CONFIDENCE) / 2
    width = float(norm.ppf(chance))  # standard errors
    if len(rows) > 2 and expected > 0:
        ratio = float(residuals @ residuals / expected)  # of variances
        if ratio > 1:
            freedom = (len(rows) - degree - 1) / (1 - 1 / ratio) ** 2
            width = float(t.ppf(chance, freedom) * np.sqrt(ratio))
    half = slice(upper_half(len(rows)), None)
    return (
        _fit(doublings, values, covariance, width),
        _fit(doublings[half], values[half], covariance[half, half], width),
    )


def _fit(doublings: np.ndarray, values: np.ndarray, covariance: np.ndarray, width: float) -> Trend:
    """Fit a line; its interval is so many standard errors wide on each side."""
    centered = doublings - doublings.mean()
    weights = centered / (centered @ centered)  # of the points, in the slope
    slope = float(weights @ values)
    error = float(np.sqrt(max(0.0, weights @ covariance @ weights)))
    return Trend(slope, (slope - width * error, slope + width * error))


def _covariance(counts: Sequence[np.ndarray], metric: Metric) -> np.ndarray:
    """Compute the covariance of the points, (points, points), over resampled test rows."""
    random, size = np.random.default_rng(0), len(counts[0])
    drawn: list[np.ndarray] = []  # (resamples, points)
    batch = max(1, MAX_DRAWN // size)
    for start in range(0, RESAMPLES, batch):
        times = random.multinomial(size, np.full(size, 1 / size), min(batch, RESAMPLES - start))
        drawn.append(np.stack([metric.from_sums(times @ own) for own in counts], axis=1))
    return np.atleast_2d(np.cov(np.concatenate(drawn), rowvar=False))
