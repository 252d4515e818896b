"""How sure a number is: intervals and tests on the rows that it was counted from."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np

CONFIDENCE = 0.95
SIGNIFICANCE = 1 - CONFIDENCE
POWER = 0.8
RESAMPLES = 9999
MOST_DRAWN = 20_000_000  # numbers at once
ROUNDING = 1e-10  # relative, of sums in another order


def wilson_interval(correct: int, rows: int) -> tuple[float, float]:
    """Bound a share of rows, such as an accuracy, at CONFIDENCE.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    from scipy.stats import binomtest

    interval = binomtest(correct, rows).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def paired_interval(gains: np.ndarray) -> tuple[float, float] | None:
    """Bound a mean difference between two models on the same rows, at CONFIDENCE.

    It covers the choice of test rows, not of the seed.

    Source: Efron 1987, "Better Bootstrap Confidence Intervals" (BCa).

    Args:
        gains: (rows,), for each row what one model scored above the other.

    Returns:
        Low and high; None where every row says the same, so that there is nothing to resample.
    """
    from scipy.stats import bootstrap

    if np.all(gains == gains[0]):
        return None
    interval = bootstrap(
        (gains,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="BCa",
        batch=max(1, min(1000, MOST_DRAWN // len(gains))),
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def measure_interval(
    counts: np.ndarray, measure: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, float] | None:
    """Bound a measure of rows, or a difference of two on the same rows, at CONFIDENCE.

    Source: as for `paired_interval`.

    Args:
        counts: (rows, counts), what each row adds.
        measure: of sums over rows, (..., counts) -> (...).

    Returns:
        Low and high; None where drawing rows anew changes nothing, or is not defined.
    """
    from scipy.stats import DegenerateDataWarning, bootstrap

    if len(counts) < 2 or np.all(counts == counts[0]):
        return None

    def statistic(drawn: np.ndarray, axis: int) -> np.ndarray:
        return measure(counts[drawn].sum(axis=-2))

    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)  # None says it
        interval = bootstrap(
            (np.arange(len(counts)),),
            statistic,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="BCa",
            batch=max(1, min(1000, MOST_DRAWN // counts.size)),
            rng=np.random.default_rng(0),
        ).confidence_interval
    low, high = float(interval.low), float(interval.high)
    return (low, high) if np.isfinite([low, high]).all() else None


def exchange_test(
    first: np.ndarray, second: np.ndarray, measure: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, float]:
    """Test whether two models measure alike, by exchanging their answers row by row at random.

    Source: Noreen 1989, "Computer-Intensive Methods for Testing Hypotheses", approximate
    randomisation; the p-value counts the observed assignment, so it is never 0.

    Args:
        first: (rows, counts), what each row adds to the first model's measure.
        second: the same of the second model.
        measure: of sums over rows, (..., counts) -> (...).

    Returns:
        The two-sided p-value; and the standard deviation of the difference where both are alike.
    """
    random = np.random.default_rng(0)
    sums, gaps = (first.sum(axis=0), second.sum(axis=0)), first - second
    measured = measure(sums[0]), measure(sums[1])
    found = abs(measured[0] - measured[1]) - ROUNDING * max(map(abs, measured))
    differences = []
    size = max(1, MOST_DRAWN // len(first))
    for start in range(0, RESAMPLES, size):
        swapped = random.random((min(size, RESAMPLES - start), len(first))) < 0.5
        moved = swapped @ gaps
        differences.append(measure(sums[0] - moved) - measure(sums[1] + moved))
    drawn = np.concatenate(differences)
    reached = np.count_nonzero(np.abs(drawn) >= found)
    return float((reached + 1) / (len(drawn) + 1)), float(drawn.std())


def mcnemar_p(first_only: int, second_only: int) -> float:
    """Test whether two models are right equally often, exactly, two-sided.

    Source: McNemar 1947; the exact form is a binomial test of the discordant rows against 1/2.

    Args:
        first_only: rows that the first model alone has right.
        second_only: rows that the second model alone has right.
    """
    from scipy.stats import binomtest

    discordant = first_only + second_only
    return float(binomtest(first_only, discordant, 0.5).pvalue) if discordant else 1.0


def smallest_difference(
    rows: int, discordant: int, significance: float = SIGNIFICANCE
) -> float | None:
    """Estimate the smallest difference in accuracy that rows can show with POWER.

    (z(1 - significance / 2) + z(POWER)) * sqrt(share of discordant rows / rows), and never less
    than the mean of a Poisson number of rows, all on one side, that gives the exact test as many
    as it needs with POWER.

    Source: Connor 1987, "Sample size for testing differences in proportions for the paired-sample
    design".

    Returns:
        The difference, from 0 to 1; None where the rows are too few to show any.
    """
    from scipy.special import gammaincinv
    from scipy.stats import norm

    fewest = next(count for count in range(1, 100) if mcnemar_p(count, 0) < significance)
    least = gammaincinv(fewest, POWER)  # the mean at which Poisson >= fewest has that chance
    z = norm.ppf(1 - significance / 2) + norm.ppf(POWER)
    smallest = max(least, z * np.sqrt(discordant)) / rows
    return float(smallest) if smallest <= 1 else None


def smallest_shift(deviation: float, significance: float = SIGNIFICANCE) -> float:
    """Estimate the smallest difference that rows can show with POWER, from its deviation by chance.

    (z(1 - significance / 2) + z(POWER)) * deviation.
    """
    from scipy.stats import norm

    return float((norm.ppf(1 - significance / 2) + norm.ppf(POWER)) * deviation)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number, so that CONFIDENCE holds for all of them together.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

    Returns:
        Corrected p-values, in the order given.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    scaled = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(scaled, 1)
    return corrected.tolist()
