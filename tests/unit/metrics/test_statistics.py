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


def test_paired_interval_is_that_of_scipy(random):
    from scipy.stats import bootstrap

    first, second = random.random(300), random.random(300) * 0.9  # no ties
    expected = bootstrap(
        (first, second),
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        paired=True,
        n_resamples=9999,
        method="BCa",
        batch=1000,  # the draws depend on it
        rng=np.random.default_rng(0),
    ).confidence_interval
    low, high = paired_interval(first - second)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert low < first.mean() - second.mean() < high


@pytest.mark.parametrize("gains", [np.zeros(40), np.ones(40), np.zeros(1)])
def test_rows_without_variation_give_no_interval(gains):
    assert paired_interval(gains) is None


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
def test_intervals_have_the_coverage_that_they_claim(monkeypatch):
    """Over 1,000 test sets; benchmarks/quality/interval_coverage.py simulates more."""
    monkeypatch.setattr("lora_tune.metrics.statistics.RESAMPLES", 999)
    random = np.random.default_rng(3)
    bootstrap = wilson = 0
    for _ in range(1000):
        chance = random.random(200)
        gains = (chance < 0.12).astype(float) - (chance > 0.95)
        low, high = paired_interval(gains)
        bootstrap += low <= 0.07 <= high
        low, high = wilson_interval(int((chance < 0.8).sum()), 200)
        wilson += low <= 0.8 <= high
    assert 930 <= bootstrap <= 970
    assert 930 <= wilson <= 970


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
