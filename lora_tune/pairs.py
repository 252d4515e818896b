"""Two ways of answering the same rows: which is better, how sure that is, and in words."""

from dataclasses import dataclass

import numpy as np

from lora_tune.metrics import ACCURACY, Measure
from lora_tune.statistics import (
    CONFIDENCE,
    SIGNIFICANCE,
    exchange_test,
    mcnemar_p,
    measure_interval,
    paired_interval,
    smallest_difference,
    smallest_shift,
)

FEWEST = 20  # rows answered differently, below which a bootstrap says more than it knows


@dataclass(frozen=True)
class Pair:
    """One against the other, in a measure."""

    rows: int
    difference: float  # first - second
    interval: tuple[float, float] | None  # of it, at CONFIDENCE; None where too few rows tell
    p_value: float  # two-sided: exact McNemar where a row is right or wrong, else by exchange
    first_only: int  # rows that the first alone has right, or that it answers better
    second_only: int
    deviation: float | None  # of the difference, by chance; None where a row is right or wrong

    @property
    def is_shown(self) -> bool:
        """Whether the rows show any difference."""
        return self.p_value < SIGNIFICANCE

    def smallest_difference(self, significance: float = SIGNIFICANCE) -> float | None:
        """The smallest difference that so many rows can show; None: none at all."""
        if self.deviation is not None:
            return smallest_shift(self.deviation, significance) or None
        return smallest_difference(self.rows, self.first_only + self.second_only, significance)


def compare_counts(first: np.ndarray, second: np.ndarray, measure: Measure) -> Pair:
    """Compare what two models' answers to the same rows add to a measure, (rows, counts) each."""
    if measure == ACCURACY:
        return compare_rows(first[:, 0] > 0, second[:, 0] > 0)
    p_value, deviation = exchange_test(first, second, measure.of)
    interval = None
    if np.count_nonzero((first != second).any(axis=1)) >= FEWEST:
        width = first.shape[1]
        interval = measure_interval(
            np.concatenate([first, second], axis=1),
            lambda sums: measure.of(sums[..., :width]) - measure.of(sums[..., width:]),
        )
    # Whether a row speaks for the first: what the measure becomes when it alone is exchanged.
    gaps = first - second
    exchanged = measure.of(first.sum(axis=0) - gaps) - measure.of(second.sum(axis=0) + gaps)
    difference = float(measure.of(first.sum(axis=0)) - measure.of(second.sum(axis=0)))
    sign = -1 if measure.lower_is_better else 1
    return Pair(
        rows=len(first),
        difference=difference,
        interval=interval,
        p_value=p_value,
        first_only=int((sign * (difference - exchanged) > 0).sum()),
        second_only=int((sign * (difference - exchanged) < 0).sum()),
        deviation=deviation,
    )


def compare_rows(first_right: np.ndarray, second_right: np.ndarray) -> Pair:
    """Compare two answers to the same rows, each of them right or wrong.

    Args:
        first_right: (rows,), whether the first is right.
        second_right: (rows,).
    """
    gains = first_right.astype(float) - second_right
    first_only, second_only = int((gains > 0).sum()), int((gains < 0).sum())
    return Pair(
        rows=len(gains),
        difference=float(gains.mean()),
        interval=paired_interval(gains) if first_only + second_only >= FEWEST else None,
        p_value=mcnemar_p(first_only, second_only),
        first_only=first_only,
        second_only=second_only,
        deviation=None,
    )


def describe_pair(
    pair: Pair,
    first: str,
    second: str,
    *,
    measure: Measure = ACCURACY,
    p_value: float | None = None,
    pairs: int = 1,
) -> str:
    """Say in one sentence which is better, or that it cannot be told.

    Args:
        measure: of their difference.
        p_value: after Holm's correction, where the pair is one of several; None for its own.
        pairs: how many there are.
    """
    p_value = pair.p_value if p_value is None else p_value
    told_p = describe_p(p_value) + (f" after Holm's correction for {pairs} pairs" * (pairs > 1))
    if p_value < SIGNIFICANCE:
        word = "better" if (pair.difference > 0) != measure.lower_is_better else "worse"
        sign = 1 if pair.difference > 0 else -1
        sentence = f"{first} is {word} than {second} by {measure.tell(pair.difference)}"
        if pair.interval:
            low, high = sorted(sign * end for end in pair.interval)
            alone = " of this pair alone" * (pairs > 1)
            sentence += f", {CONFIDENCE:.0%} interval{alone} {measure.span(low, high)}"
        return f"{sentence}, {told_p}."
    smallest = pair.smallest_difference(SIGNIFICANCE / pairs)
    able = f"can show {measure.tell(smallest)}" if smallest is not None else "can show none"
    able = f"{_rows(pair.rows)} {able}"
    if not pair.first_only + pair.second_only:
        alike = "have the same rows right" if measure == ACCURACY else "score alike in every row"
        return f"{first} and {second} {alike}: no difference shown; {able}."
    plus = "+" if pair.difference >= 0 else "-"
    measured = f"{plus}{measure.tell(pair.difference)}, {told_p}"
    return f"{first} against {second}: no difference shown ({measured}); {able}."


def describe_p(p_value: float) -> str:
    """Write a p-value as it is read."""
    if p_value < 0.001:
        return "p < 0.001"
    return f"p = {p_value:.3f}" if p_value < 0.1 else f"p = {p_value:.2f}"


def _rows(count: int) -> str:
    return f"{count:,} row" if count == 1 else f"{count:,} rows"
