"""The trend of a learning curve: found where it was planted, and only there."""

import numpy as np
import pytest

from lora_tune.metrics.learning_curve import fit_trends, upper_half
from lora_tune.metrics.metric import ACCURACY, MEAN_ABSOLUTE_ERROR

TEST_ROWS = 400


def draw_correct(shares, seed, test_rows=TEST_ROWS):
    """Draw which test rows are correct at each point, mostly the same rows: counts of accuracy."""
    random = np.random.default_rng(seed)
    ease = random.random(test_rows)
    counts = []
    for share in shares:
        own = np.where(random.random(test_rows) < 0.8, ease, random.random(test_rows))
        counts.append(np.stack([own < share, np.ones(test_rows)], axis=1).astype(float))
    return counts


def test_the_slope_is_that_of_least_squares():
    rows, counts = [100, 200, 800], draw_correct([0.6, 0.7, 0.85], seed=0)
    values = [own[:, 0].mean() for own in counts]
    trend, upper = fit_trends(rows, counts, ACCURACY)
    assert trend.slope == pytest.approx(np.polyfit(np.log2(rows), values, 1)[0])
    assert upper.slope == pytest.approx((values[2] - values[1]) / 2)  # of two doublings
    assert [upper_half(points) for points in (2, 3, 4, 5, 8)] == [0, 1, 2, 2, 4]


def test_the_standard_error_of_two_points_is_that_of_a_paired_difference():
    counts = draw_correct([0.7, 0.8], seed=1)
    gains = counts[1][:, 0] - counts[0][:, 0]
    trend, _ = fit_trends([100, 200], counts, ACCURACY)
    error = gains.std() / np.sqrt(TEST_ROWS)
    assert trend.interval[1] - trend.slope == pytest.approx(1.96 * error, rel=0.05)


def test_less_is_better_for_an_error():
    counts = [np.stack([own[:, 0] + 1, own[:, 1]], axis=1) for own in draw_correct([0.9, 0.5], 2)]
    trend, _ = fit_trends([100, 200], counts, MEAN_ABSOLUTE_ERROR)
    assert trend.slope < 0
    assert trend.direction(MEAN_ABSOLUTE_ERROR) == 1
    assert trend.direction(ACCURACY) == -1


def test_outputs_that_do_not_change_have_no_trend():
    counts = draw_correct([0.8], seed=3) * 3
    trend, _ = fit_trends([100, 200, 400], counts, ACCURACY)
    assert trend.direction(ACCURACY) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("points", "allowed"), [(3, 0.2), (5, 0.12)])
@pytest.mark.parametrize("deviation", [0.0, 0.05])  # of the accuracy, between trainings
def test_a_flat_curve_rarely_has_a_trend(points, allowed, deviation, monkeypatch):
    """Three points have one residual, which is sometimes small by chance."""
    monkeypatch.setattr("lora_tune.metrics.learning_curve.RESAMPLES", 200)
    random = np.random.default_rng(4)
    rows = [100 * 2**point for point in range(points)]
    found = 0
    for seed in range(150):
        shares = 0.8 + deviation * random.normal(size=points)
        trend, _ = fit_trends(rows, draw_correct(shares, seed), ACCURACY)
        found += trend.direction(ACCURACY) != 0
    assert found / 150 <= allowed
