"""Metrics of class logits agree with scikit-learn, with scipy and with a case by hand."""

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.special import softmax as scipy_softmax
from sklearn.metrics import accuracy_score, f1_score, log_loss

from lora_tune.metrics.classification import classification_metrics, cross_entropy, softmax


def test_a_case_by_hand():
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


@pytest.mark.parametrize("seed", range(10))
def test_metrics_are_those_of_scikit_learn_and_scipy(seed):
    random = np.random.default_rng(seed)
    classes = int(random.integers(2, 7))
    labels = random.permutation(
        np.concatenate([np.arange(classes), random.integers(0, classes, 80)])
    )
    logits = random.normal(scale=random.uniform(0.1, 30), size=(len(labels), classes))
    assert softmax(logits) == pytest.approx(scipy_softmax(logits, axis=1), abs=1e-9)
    expected = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean()
    assert cross_entropy(logits, labels) == pytest.approx(expected, abs=1e-9)
    found = classification_metrics(logits, labels)
    predicted = logits.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, predicted), abs=1e-9)
    macro = f1_score(labels, predicted, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(macro, abs=1e-9)
    mild = logits / np.abs(logits).max()  # where log_loss need not clip
    assert classification_metrics(mild, labels)["loss"] == pytest.approx(
        log_loss(labels, softmax(mild)), abs=1e-9
    )
