"""Intervals and tests agree with statsmodels and scipy, and say nothing that they cannot know."""

import math

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from lora_tune.metrics import f1_of, mean_of
from lora_tune.statistics import (
    exchange_test,
    holm,
    mcnemar_p,
    measure_interval,
    paired_interval,
    smallest_difference,
    wilson_interval,
)

RANDOM = np.random.default_rng(7)


@pytest.mark.parametrize(
    ("correct", "rows"), [(int(RANDOM.integers(0, n + 1)), n) for n in (1, 2, 17, 396, 2000)]
)
def test_wilson_is_statsmodels(correct, rows):
    expected = proportion_confint(correct, rows, alpha=0.05, method="wilson")
    assert wilson_interval(correct, rows) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("b", "c"), [(0, 5), (1, 0), *RANDOM.integers(0, 60, (20, 2))])
def test_mcnemar_is_statsmodels(b, c):
    expected = mcnemar([[50, b], [c, 50]], exact=True).pvalue
    assert mcnemar_p(b, c) == pytest.approx(min(expected, 1.0), abs=1e-9)


def test_without_a_discordant_row_there_is_nothing_to_test():
    assert mcnemar_p(0, 0) == 1.0


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_holm_is_statsmodels(count):
    p_values = RANDOM.uniform(0, 0.2, count)
    expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(expected.tolist(), abs=1e-9)


def test_the_interval_is_that_of_scipy():
    from scipy.stats import bootstrap

    first, second = RANDOM.random(300), RANDOM.random(300) * 0.9  # no ties: they round apart
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
def test_rows_that_all_say_the_same_give_no_interval(gains):
    assert paired_interval(gains) is None


def test_the_smallest_difference_shrinks_with_rows_and_grows_with_disagreement():
    assert smallest_difference(400, 40) == pytest.approx(2.8016 * math.sqrt(40) / 400, rel=1e-4)
    assert smallest_difference(1600, 160) == pytest.approx(smallest_difference(400, 40) / 2)
    # Six rows on one side: p = 2 / 64; a mean of 7.9 gives six or more four times in five.
    assert smallest_difference(400, 0) == pytest.approx(7.906 / 400, rel=1e-3)
    assert smallest_difference(5, 0) is None


@pytest.mark.parametrize("share", [0.0, 0.0125, 0.03, 0.12, 0.3])
def test_the_smallest_difference_is_shown_by_four_of_five_test_sets(share):
    rows = 400
    gain = smallest_difference(rows, round(share * rows))
    share = max(share, gain)
    chances = [(share + gain) / 2, (share - gain) / 2, 1 - share]
    counts = RANDOM.multinomial(rows, chances, 2000)
    shown = np.mean([mcnemar_p(b, c) < 0.05 and b > c for b, c, _ in counts])
    assert 0.70 < shown < 0.85  # the exact test is a little stricter than the formula


def test_intervals_hold_the_truth_as_often_as_they_say(monkeypatch):
    """Over 1,000 test sets; benchmarks/interval_coverage.py does the same at length."""
    monkeypatch.setattr("lora_tune.statistics.RESAMPLES", 999)
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


def test_the_interval_of_a_ratio_is_that_of_scipy():
    from scipy.stats import bootstrap

    counts = np.stack([RANDOM.random(200), RANDOM.uniform(1, 5, 200)], axis=1)
    expected = bootstrap(
        (counts[:, 0], counts[:, 1]),
        lambda x, y, axis: x.sum(axis=axis) / y.sum(axis=axis),
        paired=True,
        n_resamples=9999,
        method="BCa",
        batch=1000,  # the draws depend on it
        rng=np.random.default_rng(0),
    ).confidence_interval
    found = measure_interval(counts, lambda sums: sums[..., 0] / sums[..., 1])
    assert found == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.4])
def test_exchanging_answers_is_scipys_permutation_test(shift):
    from scipy.stats import permutation_test

    first, second = RANDOM.normal(size=60) + shift, RANDOM.normal(size=60)
    expected = permutation_test(
        (first, second),
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        permutation_type="samples",
        n_resamples=20000,
        rng=np.random.default_rng(1),
    ).pvalue
    ones = np.ones(60)
    p_value, deviation = exchange_test(
        np.stack([first, ones], axis=1),
        np.stack([second, ones], axis=1),
        lambda sums: sums[..., 0] / sums[..., 1],
    )
    assert p_value == pytest.approx(expected, abs=0.02)
    assert deviation == pytest.approx(np.sqrt(((first - second) ** 2).sum()) / 60, rel=0.03)


def test_models_that_answer_alike_are_never_told_apart():
    counts = RANDOM.integers(0, 5, (50, 3)).astype(float)
    assert exchange_test(counts, counts.copy(), f1_of) == (1.0, 0.0)


def test_rounding_makes_no_difference_of_a_tie():
    """Five rows that differ alike: 1 of 16 exchanges of them reaches that far, on either side."""
    first = np.stack([RANDOM.random(1000), np.ones(1000)], axis=1)
    second = first.copy()
    second[:5, 0] += 1e-4
    p_value, _ = exchange_test(first, second, mean_of)
    assert p_value == pytest.approx(1 / 16, abs=0.01)
