"""Metrics agree with scikit-learn and with what a hand can work out."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from lora_tune.metrics import cross_entropy, softmax
from lora_tune.scoring import classification_metrics


def test_a_case_worked_out_by_hand():
    logits = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 0.0]])
    scores = classification_metrics(logits, np.array([0, 1, 1, 0]))
    assert scores["accuracy"] == 0.75
    # class 0: 2 of 3 predicted are right, all found: F1 0.8; class 1: F1 2/3
    assert scores["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    right, wrong = np.log1p(np.exp(-2)), np.log1p(np.exp(2))
    assert scores["loss"] == pytest.approx((3 * right + wrong) / 4)


@pytest.mark.parametrize("seed", range(5))
def test_loss_agrees_with_scikit_learn(seed):
    random = np.random.default_rng(seed)
    logits = random.normal(scale=5, size=(50, 4))
    labels = random.integers(0, 4, size=50)
    expected = log_loss(labels, softmax(logits), labels=range(4))
    assert cross_entropy(logits, labels) == pytest.approx(expected, abs=1e-9)


def test_huge_logits_do_not_overflow():
    logits = np.array([[1e4, -1e4]])
    assert cross_entropy(logits, np.array([1])) == pytest.approx(2e4)
    assert softmax(logits).tolist() == [[1.0, 0.0]]
