"""Intervals and tests agree with statsmodels and scipy, and are omitted where undefined."""

import math

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from lora_tune.metrics.metric import f1_from_sums, mean_from_sums
from lora_tune.metrics.statistics import (
    holm,
    mcnemar_p_value,
    metric_interval,
    minimum_detectable_difference,
    paired_interval,
    permutation_test,
    wilson_interval,
)

RANDOM = np.random.default_rng(7)  # of parameters


@pytest.fixture
def random():
    return np.random.default_rng(8)


@pytest.mark.parametrize(
    ("correct", "rows"), [(int(RANDOM.integers(0, n + 1)), n) for n in (1, 2, 17, 396, 2000)]
)
def test_wilson_interval_is_that_of_statsmodels(correct, rows):
    expected = proportion_confint(correct, rows, alpha=0.05, method="wilson")
    assert wilson_interval(correct, rows) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("b", "c"), [(0, 5), (1, 0), *RANDOM.integers(0, 60, (20, 2))])
def test_mcnemar_is_that_of_statsmodels(b, c):
    expected = mcnemar([[50, b], [c, 50]], exact=True).pvalue
    assert mcnemar_p_value(b, c) == pytest.approx(min(expected, 1.0), abs=1e-9)


def test_without_discordant_rows_the_p_value_is_one():
    assert mcnemar_p_value(0, 0) == 1.0


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_holm_is_that_of_statsmodels(count, random):
    p_values = random.uniform(0, 0.2, count)
    expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(expected.tolist(), abs=1e-9)


@pytest.mark.parametrize(
    ("first_only", "second_only", "rows", "expected"),
    [
        (40, 20, 160, (0.0309, 0.2181)),
        (0, 0, 96, (-0.0385, 0.0385)),  # z**2 / (rows + z**2)
        (100, 0, 2000, (0.0413, 0.0604)),
        (6, 0, 6, (0.2193, 1.0)),  # (rows - z**2) / (rows + z**2)
        (5, 0, 100, (0.0, 0.1118)),  # McNemar's exact test does not reject 0
        (1, 7, 21, (-0.5172, 0.0)),  # airway data; Fagerland et al. 2014: -0.517 to -0.026
    ],
)
def test_paired_interval_of_known_cases(first_only, second_only, rows, expected):
    low, high = paired_interval(first_only, second_only, rows)
    assert (low, high) == pytest.approx(expected, abs=1e-4)
    swapped = paired_interval(second_only, first_only, rows)
    assert swapped == pytest.approx((-high, -low), abs=1e-9)


@pytest.mark.parametrize(("b", "c", "rows"), [(30, 12, 200), (9, 1, 60), (14, 0, 80)])
def test_the_ends_of_the_paired_interval_are_where_the_score_test_rejects(b, c, rows):
    """The likelihood of shares, given their difference, is maximized numerically."""
    from scipy.optimize import minimize_scalar

    for end in paired_interval(b, c, rows):

        def loss(share, end=end):  # share of rows where only the second is correct
            chances = np.maximum([share + end, share, 1 - 2 * share - end], 1e-300)
            return -np.dot([b, c, rows - b - c], np.log(chances))

        bounds = (max(0, -end), (1 - end) / 2)
        share = minimize_scalar(loss, bounds=bounds, options={"xatol": 1e-12}).x
        variance = rows * (2 * share + end - end**2)
        assert abs(b - c - rows * end) == pytest.approx(1.95996 * math.sqrt(variance), rel=1e-3)


@pytest.mark.parametrize("rows", [1, 5, 200])
def test_the_paired_interval_agrees_with_the_test(rows):
    for b in range(min(rows, 8) + 1):
        for c in range(min(rows - b, 8) + 1):
            low, high = paired_interval(b, c, rows)
            assert -1 <= low <= (b - c) / rows <= high <= 1
            assert (low > 0 or high < 0) == (mcnemar_p_value(b, c) < 0.05), (b, c)


def test_minimum_detectable_difference_by_hand():
    assert minimum_detectable_difference(400, 40) == pytest.approx(
        2.8016 * math.sqrt(40) / 400, rel=1e-4
    )
    assert minimum_detectable_difference(1600, 160) == pytest.approx(
        minimum_detectable_difference(400, 40) / 2
    )
    # Six rows on one side: p = 2 / 64; a Poisson mean of 7.9 gives six or more in 80% of draws.
    assert minimum_detectable_difference(400, 0) == pytest.approx(7.906 / 400, rel=1e-3)
    assert minimum_detectable_difference(5, 0) is None


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.0125, 0.03, 0.12, 0.3])
def test_minimum_detectable_difference_has_the_power_it_claims(share, random):
    rows = 400
    gain = minimum_detectable_difference(rows, round(share * rows))
    share = max(share, gain)
    chances = [(share + gain) / 2, (share - gain) / 2, 1 - share]
    counts = random.multinomial(rows, chances, 2000)
    detected = np.mean([mcnemar_p_value(b, c) < 0.05 and b > c for b, c, _ in counts])
    assert 0.70 < detected < 0.85  # the exact test is a little stricter than the formula


@pytest.mark.slow
@pytest.mark.parametrize("discordant", [2, 5, 11, 18, 40])  # rows, on average
@pytest.mark.parametrize("share", [0.5, 0.8, 1.0])  # of them, where only the first is correct
def test_paired_intervals_have_the_coverage_that_they_claim(discordant, share):
    """Over 2,000 test sets; where few rows differ, an interval covers more than it claims."""
    random, rows = np.random.default_rng(3), 300
    chances = np.array([share, 1 - share]) * discordant / rows
    counts = random.multinomial(rows, [*chances, 1 - chances.sum()], 2000)
    drawn, times = np.unique(counts[:, :2], axis=0, return_counts=True)
    intervals = [paired_interval(b, c, rows) for b, c in drawn.tolist()]
    covered = [low <= chances[0] - chances[1] <= high for low, high in intervals]
    assert np.average(covered, weights=times) >= 0.93


@pytest.mark.slow
def test_wilson_intervals_have_the_coverage_that_they_claim():
    """Over 1,000 test sets; benchmarks/quality/interval_coverage.py simulates more."""
    correct = np.random.default_rng(3).binomial(200, 0.8, 1000)
    intervals = [wilson_interval(int(count), 200) for count in correct]
    assert 0.93 <= np.mean([low <= 0.8 <= high for low, high in intervals]) <= 0.97


def test_interval_of_a_ratio_is_that_of_scipy(random):
    from scipy.stats import bootstrap

    counts = np.stack([random.random(200), random.uniform(1, 5, 200)], axis=1)
    expected = bootstrap(
        (counts[:, 0], counts[:, 1]),
        lambda x, y, axis: x.sum(axis=axis) / y.sum(axis=axis),
        paired=True,
        n_resamples=9999,
        method="BCa",
        batch=1000,  # the draws depend on it
        rng=np.random.default_rng(0),
    ).confidence_interval
    found = metric_interval(counts, lambda sums: sums[..., 0] / sums[..., 1])
    assert found == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.4])
def test_permutation_test_is_that_of_scipy(shift, random):
    from scipy.stats import permutation_test as scipy_permutation_test

    first, second = random.normal(size=60) + shift, random.normal(size=60)
    expected = scipy_permutation_test(
        (first, second),
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        permutation_type="samples",
        n_resamples=20000,
        rng=np.random.default_rng(1),
    ).pvalue
    ones = np.ones(60)
    p_value, deviation = permutation_test(
        np.stack([first, ones], axis=1),
        np.stack([second, ones], axis=1),
        lambda sums: sums[..., 0] / sums[..., 1],
    )
    assert p_value == pytest.approx(expected, abs=0.02)
    assert deviation == pytest.approx(np.sqrt(((first - second) ** 2).sum()) / 60, rel=0.03)


def test_identical_systems_have_a_p_value_of_one(random):
    counts = random.integers(0, 5, (50, 3)).astype(float)
    assert permutation_test(counts, counts.copy(), f1_from_sums) == (1.0, 0.0)


def test_ties_survive_rounding(random):
    """Five rows differ by the same amount: 1 of 16 permutations is as extreme, two-sided."""
    first = np.stack([random.random(1000), np.ones(1000)], axis=1)
    second = first.copy()
    second[:5, 0] += 1e-4
    p_value, _ = permutation_test(first, second, mean_from_sums)
    assert p_value == pytest.approx(1 / 16, abs=0.01)
