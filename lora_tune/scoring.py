"""Metrics of predictions, as modules of the evaluate library that need no download.

`evaluate.load("accuracy")` fetches its code from the Hub; these subclass evaluate's own Metric
over scikit-learn, so they compute the same offline.
"""

from typing import Any

import evaluate
import numpy as np
from datasets import Features, Value
from sklearn.metrics import accuracy_score, f1_score

from lora_tune.metrics import cross_entropy

FEATURES = Features({"predictions": Value("int64"), "references": Value("int64")})


class Accuracy(evaluate.Metric):
    """The share of predictions that equal their reference."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__, citation="", inputs_description="", features=FEATURES
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predictions))}


class MacroF1(evaluate.Metric):
    """The unweighted mean over classes of F1 = 2 TP / (2 TP + FP + FN); 0 where undefined."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__, citation="", inputs_description="", features=FEATURES
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        score = f1_score(references, predictions, average="macro", zero_division=0)
        return {"macro_f1": float(score)}


def classification_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Score class logits.

    Args:
        logits: (rows, classes), unnormalised.
        labels: (rows,), class numbers.

    Returns:
        accuracy, macro_f1, and loss: the mean cross-entropy in nats.
    """
    metric = evaluate.combine([Accuracy(keep_in_memory=True), MacroF1(keep_in_memory=True)])
    scores = metric.compute(predictions=logits.argmax(axis=1), references=labels)
    return {**scores, "loss": cross_entropy(logits, labels)}
