"""Two ways of answering the same rows: which is better, how sure that is, and in words."""

from dataclasses import dataclass

import numpy as np

from lora_tune.statistics import (
    CONFIDENCE,
    SIGNIFICANCE,
    mcnemar_p,
    paired_interval,
    smallest_difference,
)

FEWEST = 20  # rows answered differently, below which a bootstrap says more than it knows


@dataclass(frozen=True)
class Pair:
    """One against the other, in accuracy; shares from 0 to 1."""

    rows: int
    difference: float  # first - second
    interval: tuple[float, float] | None  # of it, at CONFIDENCE; None where too few rows tell
    p_value: float  # exact McNemar, two-sided
    first_only: int  # rows that the first alone has right
    second_only: int
    smallest_difference: float | None  # that so many rows can show; None: none at all

    @property
    def is_shown(self) -> bool:
        """Whether the rows show any difference."""
        return self.p_value < SIGNIFICANCE


def compare_rows(first_right: np.ndarray, second_right: np.ndarray) -> Pair:
    """Compare two answers to the same rows.

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
        smallest_difference=smallest_difference(len(gains), first_only + second_only),
    )


def describe_pair(
    pair: Pair, first: str, second: str, *, p_value: float | None = None, pairs: int = 1
) -> str:
    """Say in one sentence which is better, or that it cannot be told; in points of accuracy.

    Args:
        p_value: after Holm's correction, where the pair is one of several; None for its own.
        pairs: how many there are.
    """
    p_value = pair.p_value if p_value is None else p_value
    told_p = describe_p(p_value) + (f" after Holm's correction for {pairs} pairs" * (pairs > 1))
    if p_value < SIGNIFICANCE:
        word = "better" if pair.difference > 0 else "worse"
        sign = 1 if pair.difference > 0 else -1
        sentence = f"{first} is {word} than {second} by {_points(abs(pair.difference))}"
        if pair.interval:
            low, high = sorted(100 * sign * end for end in pair.interval)
            alone = " of this pair alone" * (pairs > 1)
            sentence += f", {CONFIDENCE:.0%} interval{alone} {low:.1f} to {high:.1f}"
        return f"{sentence}, {told_p}."
    discordant = pair.first_only + pair.second_only
    smallest = smallest_difference(pair.rows, discordant, SIGNIFICANCE / pairs)
    able = f"can show {_points(smallest)}" if smallest is not None else "can show none"
    able = f"{_rows(pair.rows)} {able}"
    if not discordant:
        return f"{first} and {second} have the same rows right: no difference shown; {able}."
    measured = f"{100 * pair.difference:+.1f} points, {told_p}"
    return f"{first} against {second}: no difference shown ({measured}); {able}."


def describe_p(p_value: float) -> str:
    """Write a p-value as it is read."""
    if p_value < 0.001:
        return "p < 0.001"
    return f"p = {p_value:.3f}" if p_value < 0.1 else f"p = {p_value:.2f}"


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


def _rows(count: int) -> str:
    return f"{count:,} row" if count == 1 else f"{count:,} rows"
