"""Metrics from sums over rows, and how differences in them are written."""

import numpy as np
import pytest

from lora_tune.metrics.metric import ACCURACY, PERPLEXITY, f1_from_sums, precision_recall_f1


def test_f1_from_sums():
    assert f1_from_sums(np.array([[2.0, 1, 3], [0, 0, 0], [0, 2, 1]])).tolist() == [0.5, 0, 0]


@pytest.mark.parametrize(
    ("sums", "expected"),
    [
        ([2, 1, 3], (2 / 3, 0.4, 0.5)),
        ([0, 0, 3], (None, 0, 0)),
        ([0, 2, 0], (0, None, 0)),
        ([0, 0, 0], (None, None, None)),
    ],
)
def test_undefined_precision_and_recall_are_none(sums, expected):
    assert tuple(precision_recall_f1(np.array(sums)).values()) == expected


def test_differences_are_in_points_or_in_the_metrics_own_unit():
    assert ACCURACY.format_difference(-0.0512) == "5.1 points"
    assert ACCURACY.format_interval(-0.01, 0.0512) == "-1.0 to 5.1"
    assert PERPLEXITY.format_difference(-0.05123) == "0.0512 in perplexity"
    assert PERPLEXITY.format_interval(-1.5, 2) == "-1.5 to 2"
