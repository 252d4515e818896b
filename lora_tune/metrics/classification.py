"""Metrics of class logits."""

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logits (rows, classes) into probabilities of the same shape."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Turn logits of any shape into probabilities of the same shape, in float64."""
    return 1 / (1 + np.exp(-logits.astype(float)))


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log softmax(logits)[label] in nats; logits (rows, classes), labels (rows,)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def classification_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Compute accuracy, macro-F1 and loss.

    Args:
        logits: (rows, classes), unnormalized.
        labels: (rows,), class ids.

    Returns:
        accuracy; macro_f1, the unweighted mean over classes of F1 = 2 TP / (2 TP + FP + FN), 0
        where undefined; and loss, the mean cross-entropy in nats.
    """
    from sklearn.metrics import accuracy_score, f1_score

    predictions = logits.argmax(axis=1)
    return {
        "accuracy": float(accuracy_score(labels, predictions)),
        "macro_f1": float(f1_score(labels, predictions, average="macro", zero_division=0)),
        "loss": cross_entropy(logits, labels),
    }
