"""Two systems on the same rows: the difference, how sure it is, and a verdict in words."""

from dataclasses import dataclass

import numpy as np

from lora_tune.metrics.metric import ACCURACY, Metric
from lora_tune.metrics.statistics import (
    CONFIDENCE,
    SIGNIFICANCE,
    mcnemar_p_value,
    metric_interval,
    minimum_detectable_difference,
    minimum_detectable_shift,
    paired_interval,
    permutation_test,
)

MIN_DIFFERING = 20  # rows, below which a bootstrap interval is unreliable


@dataclass(frozen=True)
class PairedComparison:
    """One system against another, in one metric."""

    rows: int
    difference: float  # first - second
    interval: tuple[float, float] | None  # of it, at CONFIDENCE
    interval_reason: str | None  # why there is no interval; None where there is one
    p_value: float  # two-sided: exact McNemar where rows are correct or not, else permutation
    first_only: int  # rows where the first alone is correct, or is better
    second_only: int
    deviation: float | None  # of the difference by chance; None where rows are correct or not

    @property
    def is_significant(self) -> bool:
        """Whether the rows show a difference."""
        return self.p_value < SIGNIFICANCE

    def minimum_detectable_difference(self, significance: float = SIGNIFICANCE) -> float | None:
        """The smallest difference that these rows can detect at 80 % power; None: none at all."""
        if self.deviation is not None:
            return minimum_detectable_shift(self.deviation, significance) or None
        discordant = self.first_only + self.second_only
        return minimum_detectable_difference(self.rows, discordant, significance)


def compare_counts(first: np.ndarray, second: np.ndarray, metric: Metric) -> PairedComparison:
    """Compare what two systems' outputs for the same rows add to a metric, (rows, counts) each."""
    if metric == ACCURACY:
        return compare_rows(first[:, 0] > 0, second[:, 0] > 0)
    p_value, deviation = permutation_test(first, second, metric.from_sums)
    interval, reason = None, None
    differing = int((first != second).any(axis=1).sum())
    if differing < MIN_DIFFERING:
        reason = f"no interval: {_rows(differing)} of {len(first):,} differ, expected at least "
        reason += f"{MIN_DIFFERING} for a bootstrap"
    else:
        width = first.shape[1]
        interval = metric_interval(
            np.concatenate([first, second], axis=1),
            lambda sums: metric.from_sums(sums[..., :width]) - metric.from_sums(sums[..., width:]),
        )
        reason = None if interval else "no interval: the bootstrap is undefined for these rows"
    # Whether a row favors the first: how the metric changes when that row alone is exchanged.
    gaps = first - second
    sums = first.sum(axis=0), second.sum(axis=0)
    exchanged = metric.from_sums(sums[0] - gaps) - metric.from_sums(sums[1] + gaps)
    difference = float(metric.from_sums(sums[0]) - metric.from_sums(sums[1]))
    sign = -1 if metric.lower_is_better else 1
    return PairedComparison(
        rows=len(first),
        difference=difference,
        interval=interval,
        interval_reason=reason,
        p_value=p_value,
        first_only=int((sign * (difference - exchanged) > 0).sum()),
        second_only=int((sign * (difference - exchanged) < 0).sum()),
        deviation=deviation,
    )


def compare_rows(first_correct: np.ndarray, second_correct: np.ndarray) -> PairedComparison:
    """Compare two systems on the same rows, each row correct or not.

    Args:
        first_correct: (rows,), whether the first is correct.
        second_correct: (rows,).
    """
    gains = first_correct.astype(float) - second_correct
    first_only, second_only = int((gains > 0).sum()), int((gains < 0).sum())
    return PairedComparison(
        rows=len(gains),
        difference=float(gains.mean()),
        interval=paired_interval(first_only, second_only, len(gains)),
        interval_reason=None,
        p_value=mcnemar_p_value(first_only, second_only),
        first_only=first_only,
        second_only=second_only,
        deviation=None,
    )


def describe_comparison(
    paired: PairedComparison,
    first: str,
    second: str,
    *,
    metric: Metric = ACCURACY,
    p_value: float | None = None,
    comparisons: int = 1,
) -> str:
    """Say in one sentence which system is better, or that no difference is significant.

    Args:
        first: the first system's name, as in a sentence.
        second: the second's.
        metric: of their difference.
        p_value: after Holm's correction, where there are several comparisons; None for its own.
        comparisons: how many there are.
    """
    p_value = paired.p_value if p_value is None else p_value
    correction = f" after Holm's correction for {comparisons} comparisons" * (comparisons > 1)
    written_p = format_p_value(p_value) + correction
    single = " for this comparison alone" * (comparisons > 1)
    if p_value < SIGNIFICANCE:
        word = "better" if (paired.difference > 0) != metric.lower_is_better else "worse"
        sign = 1 if paired.difference > 0 else -1
        amount = metric.format_difference(paired.difference)
        interval = _describe_interval(paired, metric, sign, single)
        return f"{first} is {word} than {second} by {amount}, {interval}, {written_p}."
    smallest = paired.minimum_detectable_difference(SIGNIFICANCE / comparisons)
    detectable = metric.format_difference(smallest) if smallest is not None else "none"
    power = f"minimum detectable difference with {_rows(paired.rows)}: {detectable}"
    interval = _describe_interval(paired, metric, 1, single)
    if not paired.first_only + paired.second_only:
        same = (
            "are correct on the same rows" if metric == ACCURACY else "score the same on each row"
        )
        shown = f" ({interval})" if paired.interval else ""
        return f"{first} and {second} {same}: no significant difference{shown}; {power}."
    plus = "+" if paired.difference >= 0 else "-"
    measured = f"{plus}{metric.format_difference(paired.difference)}, {interval}, {written_p}"
    return f"{first} against {second}: no significant difference ({measured}); {power}."


def _describe_interval(paired: PairedComparison, metric: Metric, sign: int, single: str) -> str:
    """Format the interval of a difference times a sign, or say why there is none."""
    if not paired.interval:
        return paired.interval_reason or "no interval"
    low, high = sorted(sign * end for end in paired.interval)
    return f"{CONFIDENCE:.0%} interval{single} {metric.format_interval(low, high)}"


def format_p_value(p_value: float) -> str:
    """Format a p-value."""
    if p_value < 0.001:
        return "p < 0.001"
    return f"p = {p_value:.3f}" if p_value < 0.1 else f"p = {p_value:.2f}"


def _rows(count: int) -> str:
    return f"{count:,} row" if count == 1 else f"{count:,} rows"
