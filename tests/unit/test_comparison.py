"""The interval of a difference, by simulation and at its edges."""

import numpy as np
import pytest

from lora_tune.comparison import accuracy_interval
from lora_tune.evaluation import Evaluation


def answers(right, labels):
    """An evaluation that is right where `right` says."""
    predicted = np.where(right, labels, 1 - labels)
    return Evaluation(np.eye(2)[predicted], {})


def test_identical_answers_have_no_difference():
    labels = np.array([0, 1, 1, 0])
    same = answers(np.array([True, False, True, True]), labels)
    assert accuracy_interval(same, same, labels) == (0.0, 0.0)


def test_a_gain_on_every_row_and_a_single_row():
    labels = np.zeros(5, dtype=int)
    worst, best = answers(np.zeros(5, bool), labels), answers(np.ones(5, bool), labels)
    assert accuracy_interval(worst, best, labels) == (1.0, 1.0)
    one = np.zeros(1, dtype=int)
    low = answers(np.zeros(1, bool), one)
    assert accuracy_interval(low, low, one) == (0.0, 0.0)


def test_the_interval_covers_the_true_difference_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        labels = random.integers(0, 2, size=300)
        base = answers(random.random(300) < 0.7, labels)
        adapted = answers(random.random(300) < 0.8, labels)
        low, high = accuracy_interval(base, adapted, labels)
        covered += low <= 0.1 <= high
    # 95 of 100 expected; 88 or fewer would come by chance about once in 200.
    assert covered >= 89


def test_more_rows_narrow_it():
    labels = np.zeros(2000, dtype=int)
    random = np.random.default_rng(1)
    base, adapted = random.random(2000) < 0.6, random.random(2000) < 0.7
    first = labels[:100]
    few = accuracy_interval(answers(base[:100], first), answers(adapted[:100], first), first)
    many = accuracy_interval(answers(base, labels), answers(adapted, labels), labels)
    assert many[1] - many[0] == pytest.approx((few[1] - few[0]) / np.sqrt(20), rel=0.25)
