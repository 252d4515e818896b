"""Base against adapted model on the same test rows: how much better, and how sure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lora_tune.classifier import Prediction
from lora_tune.evaluation import Evaluation
from lora_tune.tasks import SequenceClassification

CONFIDENCE = 0.95
RESAMPLES = 9999


@dataclass(frozen=True)
class Comparison:
    """Base and adapted model on the same test rows."""

    task: str
    metric: str  # of difference
    test_rows: int
    base: dict[str, float]  # metrics
    adapted: dict[str, float]
    difference: float  # adapted - base
    difference_interval: tuple[float, float]  # CONFIDENCE, over test rows
    fresh_head: bool  # the base's head is random, so the base guesses
    caveats: list[str]  # what a reader of the numbers must know


@dataclass(frozen=True)
class Cost:
    """What an adapter took to train, and what it takes to keep."""

    trainable_parameters: int
    total_parameters: int
    adapter_bytes: int  # of the weights file
    train_seconds: float


@dataclass(frozen=True)
class Example:
    """A text of the recipe's own, before and after training."""

    text: str
    base: Prediction
    adapted: Prediction


def compare(
    base: Evaluation,
    adapted: Evaluation,
    labels: np.ndarray,
    *,
    task: SequenceClassification,
    fresh_head: bool,
    caveats: Sequence[str],
) -> Comparison:
    """Compare two evaluations of the same rows; labels (rows,) are class numbers."""
    return Comparison(
        task=task.name,
        metric=task.metric,
        test_rows=len(labels),
        base=base.metrics,
        adapted=adapted.metrics,
        difference=adapted.metrics[task.metric] - base.metrics[task.metric],
        difference_interval=accuracy_interval(base, adapted, labels),
        fresh_head=fresh_head,
        caveats=list(caveats),
    )


def accuracy_interval(
    base: Evaluation, adapted: Evaluation, labels: np.ndarray
) -> tuple[float, float]:
    """Bound the difference in accuracy, paired by row.

    It covers the choice of test rows, not of the seed.

    Source: Efron 1987, "Better Bootstrap Confidence Intervals" (BCa).

    Args:
        labels: (rows,), class numbers.
    """
    from scipy.stats import bootstrap

    gains = (adapted.predictions == labels).astype(float) - (base.predictions == labels)
    if np.all(gains == gains[0]):  # nothing to resample
        return float(gains[0]), float(gains[0])
    interval = bootstrap(
        (gains,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="BCa",
        batch=1000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)
