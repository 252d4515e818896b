"""Confidence intervals, significance tests and statistical power of metrics of test rows."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np

CONFIDENCE = 0.95
SIGNIFICANCE = 1 - CONFIDENCE
POWER = 0.8
RESAMPLES = 9999
MAX_DRAWN = 20_000_000  # random numbers drawn at once
ROUNDING = 1e-10  # relative error of sums that are added in another order


def wilson_interval(correct: int, rows: int) -> tuple[float, float]:
    """Compute the confidence interval of a proportion of rows, such as accuracy.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    Args:
        correct: number of rows that are correct.
        rows: number of all rows.

    Returns:
        Low and high, from 0 to 1, at CONFIDENCE.
    """
    from scipy.stats import binomtest

    interval = binomtest(correct, rows).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def paired_interval(first_only: int, second_only: int, rows: int) -> tuple[float, float]:
    """Compute the confidence interval of a difference in accuracy between two models.

    It holds the differences that a score test of the discordant rows does not reject, so it is
    defined for any number of them, none included. Where McNemar's exact test, which is stricter,
    does not reject a difference of 0, the interval is extended to 0. It reflects the sampling of
    test rows, not the choice of the seed.

    Source: Tango 1998, "Equivalence test and confidence interval for the difference in proportions
    for the paired-sample design".

    Args:
        first_only: number of rows where only the first model is correct.
        second_only: number of rows where only the second model is correct.
        rows: number of all rows.

    Returns:
        Low and high, from -1 to 1, at CONFIDENCE.
    """
    low = _lowest_difference(first_only, second_only, rows)
    high = -_lowest_difference(second_only, first_only, rows)
    if mcnemar_p_value(first_only, second_only) >= SIGNIFICANCE:
        return min(low, 0.0), max(high, 0.0)
    return low, high


def _lowest_difference(first_only: int, second_only: int, rows: int) -> float:
    """Find the lowest difference that Tango's score test does not reject."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    z = norm.ppf(1 - SIGNIFICANCE / 2)
    observed = first_only - second_only

    def excess(difference: float) -> float:
        """How far the observed rows are above those expected, beyond z standard errors."""
        # The most likely share of rows where only the second is correct, given the difference.
        linear = (2 * rows - observed) * difference - first_only - second_only
        constant = -second_only * difference * (1 - difference)
        share = (np.sqrt(max(0.0, linear**2 - 8 * rows * constant)) - linear) / (4 * rows)
        variance = rows * max(0.0, 2 * share + difference * (1 - difference))
        return observed - rows * difference - z * float(np.sqrt(variance))

    if excess(-1.0) <= 0:
        return -1.0
    # The excess is 0 at the observed difference itself where all rows agree or all favor one.
    return float(brentq(excess, -1.0, observed / rows - ROUNDING))


def metric_interval(
    counts: np.ndarray, metric: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, float] | None:
    """Compute the confidence interval of a metric of rows, or of a difference of two metrics.

    Source: Efron 1987, "Better Bootstrap Confidence Intervals" (BCa).

    Args:
        counts: (rows, counts), what each row adds to the sums.
        metric: computes the metric from sums over rows, (..., counts) -> (...).

    Returns:
        Low and high at CONFIDENCE; None where all rows are equal, or the interval is undefined.
    """
    from scipy.stats import DegenerateDataWarning, bootstrap

    if len(counts) < 2 or np.all(counts == counts[0]):
        return None

    def statistic(drawn: np.ndarray, axis: int) -> np.ndarray:
        return metric(counts[drawn].sum(axis=-2))

    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)  # None is returned instead
        interval = bootstrap(
            (np.arange(len(counts)),),
            statistic,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="BCa",
            batch=max(1, min(1000, MAX_DRAWN // counts.size)),
            rng=np.random.default_rng(0),
        ).confidence_interval
    low, high = float(interval.low), float(interval.high)
    return (low, high) if np.isfinite([low, high]).all() else None


def permutation_test(
    first: np.ndarray, second: np.ndarray, metric: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, float]:
    """Test whether two models have the same metric, by exchanging their outputs in random rows.

    Source: Noreen 1989, "Computer-Intensive Methods for Testing Hypotheses" (approximate
    randomization). The p-value counts the observed assignment, so it is never 0.

    Args:
        first: (rows, counts), what each row adds to the sums of the first model.
        second: (rows, counts), of the second model.
        metric: computes the metric from sums over rows, (..., counts) -> (...).

    Returns:
        The two-sided p-value, and the standard deviation of the difference under the null
        hypothesis that the models are the same.
    """
    random = np.random.default_rng(0)
    sums, gaps = (first.sum(axis=0), second.sum(axis=0)), first - second
    observed = metric(sums[0]), metric(sums[1])
    threshold = abs(observed[0] - observed[1]) - ROUNDING * max(map(abs, observed))
    differences = []
    size = max(1, MAX_DRAWN // len(first))
    for start in range(0, RESAMPLES, size):
        is_exchanged = random.random((min(size, RESAMPLES - start), len(first))) < 0.5
        moved = is_exchanged @ gaps  # (permutations, counts)
        differences.append(metric(sums[0] - moved) - metric(sums[1] + moved))
    permuted = np.concatenate(differences)  # (permutations,)
    extreme = np.count_nonzero(np.abs(permuted) >= threshold)
    return float((extreme + 1) / (len(permuted) + 1)), float(permuted.std())


def mcnemar_p_value(first_only: int, second_only: int) -> float:
    """Test whether two models are correct equally often: McNemar's exact test, two-sided.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated
    proportions or percentages"; the exact form is a binomial test of the discordant rows.

    Args:
        first_only: number of rows where only the first model is correct.
        second_only: number of rows where only the second model is correct.
    """
    from scipy.stats import binomtest

    discordant = first_only + second_only
    return float(binomtest(first_only, discordant, 0.5).pvalue) if discordant else 1.0


def minimum_detectable_difference(
    rows: int, discordant: int, significance: float = SIGNIFICANCE
) -> float | None:
    """Estimate the smallest difference in accuracy that the test detects with POWER.

    It is (z(1 - significance / 2) + z(POWER)) * sqrt(discordant) / rows. Its minimum is d / rows,
    where a Poisson number of discordant rows with mean d, all in favor of one model, is with
    probability POWER large enough for the exact test to be significant.

    Source: Connor 1987, "Sample size for testing differences in proportions for the paired-sample
    design".

    Args:
        rows: number of test rows.
        discordant: number of rows where one model is correct and the other is not.
        significance: the level of the test.

    Returns:
        The difference, from 0 to 1; None where the rows are too few to detect any.
    """
    from scipy.special import gammaincinv
    from scipy.stats import norm

    needed = next(count for count in range(1, 100) if mcnemar_p_value(count, 0) < significance)
    minimum = gammaincinv(needed, POWER)  # the mean at which P(Poisson >= needed) is POWER
    z = norm.ppf(1 - significance / 2) + norm.ppf(POWER)
    smallest = max(minimum, z * np.sqrt(discordant)) / rows
    return float(smallest) if smallest <= 1 else None


def minimum_detectable_shift(deviation: float, significance: float = SIGNIFICANCE) -> float:
    """Estimate the smallest difference in a metric that the permutation test detects with POWER.

    It is (z(1 - significance / 2) + z(POWER)) * deviation.

    Source: Bloom 1995, "Minimum Detectable Effects: A Simple Way to Report the Statistical Power
    of Experimental Designs".

    Args:
        deviation: the standard deviation of the difference under the null hypothesis.
        significance: the level of the test.
    """
    from scipy.stats import norm

    return float((norm.ppf(1 - significance / 2) + norm.ppf(POWER)) * deviation)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for multiple comparisons, by the Holm-Bonferroni method.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

    Returns:
        The corrected p-values, in the same order.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    scaled = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(scaled, 1)
    return corrected.tolist()
