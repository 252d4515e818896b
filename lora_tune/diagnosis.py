"""Where a classifier is right and wrong: by class, by confidence, row by row."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lora_tune.evaluation import Evaluation

BINS = 10  # of confidence, equally wide
SHOWN_ROWS = 10  # of each kind
ROC_POINTS = 200  # at most, of a curve


@dataclass(frozen=True)
class ClassScore:
    """One class against all others."""

    label: str
    support: int  # rows of it
    precision: float | None  # None where it has no meaning: nothing was predicted, or no such row
    recall: float | None
    specificity: float | None  # share of the other classes' rows that were not called this
    f1: float | None
    auc: float | None  # area under the ROC curve
    roc: list[tuple[float, float]]  # (false positive rate, true positive rate)


@dataclass(frozen=True)
class Bin:
    """Rows of like confidence; the reliability curve's points."""

    rows: int
    confidence: float  # mean probability of the predicted class
    accuracy: float


@dataclass(frozen=True)
class Diagnosis:
    """Where a model is right and wrong on the test rows."""

    classes: list[ClassScore]
    confusion: list[list[int]]  # [true class][predicted class], rows
    calibration_error: float  # expected, ECE: mean of |confidence - accuracy| over rows, by bin
    reliability: list[Bin]  # bins that hold rows, least confident first


@dataclass(frozen=True)
class Cases:
    """Row numbers worth reading, the most telling first."""

    against: str  # the rung whose answers were put right or spoilt
    fixed: list[int]
    broken: list[int]
    mistakes: list[int]  # the most confident


def diagnose(evaluation: Evaluation, labels: np.ndarray, names: Sequence[str]) -> Diagnosis:
    """Diagnose answers to rows with labels (rows,).

    Source: of the calibration error, Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    from sklearn.metrics import confusion_matrix

    confusion = confusion_matrix(labels, evaluation.predictions, labels=range(len(names)))
    reliability, error = _calibrate(evaluation, labels)
    return Diagnosis(
        classes=[
            _score_class(number, name, confusion, evaluation, labels)
            for number, name in enumerate(names)
        ],
        confusion=confusion.tolist(),
        calibration_error=error,
        reliability=reliability,
    )


def find_cases(
    adapted: Evaluation, other: Evaluation, labels: np.ndarray, *, against: str
) -> Cases:
    """Find the rows that the adapted model alone has right or wrong, and its surest mistakes."""
    right, other_right = adapted.predictions == labels, other.predictions == labels
    confidence = adapted.probabilities.max(axis=1)

    def surest(chosen: np.ndarray) -> list[int]:
        rows = np.flatnonzero(chosen)
        return rows[np.argsort(-confidence[rows], kind="stable")][:SHOWN_ROWS].tolist()

    return Cases(
        against,
        fixed=surest(right & ~other_right),
        broken=surest(~right & other_right),
        mistakes=surest(~right),
    )


def _score_class(
    number: int, name: str, confusion: np.ndarray, evaluation: Evaluation, labels: np.ndarray
) -> ClassScore:
    from sklearn.metrics import roc_auc_score, roc_curve

    hits = int(confusion[number, number])
    support, called = int(confusion[number].sum()), int(confusion[:, number].sum())
    others = len(labels) - support
    auc, roc = None, []
    if support and others:
        is_class, scores = labels == number, evaluation.probabilities[:, number]
        auc = float(roc_auc_score(is_class, scores))
        false, true, _ = roc_curve(is_class, scores)
        kept = np.unique(np.linspace(0, len(false) - 1, ROC_POINTS).round().astype(int))
        roc = list(zip(false[kept].tolist(), true[kept].tolist(), strict=True))
    return ClassScore(
        name,
        support,
        precision=_share(hits, called),
        recall=_share(hits, support),
        specificity=_share(others - (called - hits), others),
        f1=_share(2 * hits, support + called),
        auc=auc,
        roc=roc,
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _calibrate(evaluation: Evaluation, labels: np.ndarray) -> tuple[list[Bin], float]:
    confidence = evaluation.probabilities.max(axis=1)
    right = evaluation.predictions == labels
    numbers = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = [
        Bin(int(held.sum()), float(confidence[held].mean()), float(right[held].mean()))
        for held in (numbers == number for number in range(BINS))
        if held.any()
    ]
    error = sum(b.rows * abs(b.confidence - b.accuracy) for b in bins) / len(labels)
    return bins, float(error)
