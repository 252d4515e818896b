"""Our metrics are scikit-learn's and scipy's, on random inputs."""

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.special import softmax as scipy_softmax
from sklearn.metrics import accuracy_score, f1_score, log_loss

from lora_tune.metrics import cross_entropy, softmax
from lora_tune.scoring import classification_metrics


@pytest.mark.parametrize("seed", range(10))
def test_metrics(seed):
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
