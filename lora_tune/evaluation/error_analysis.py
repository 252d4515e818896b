"""Errors of a classifier: by class, by confidence, and row by row."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lora_tune.evaluation.model_evaluation import Evaluation

BINS = 10  # of confidence, of equal width
MAX_CASES = 10  # rows of each kind
MAX_ROC_POINTS = 200  # of a curve


@dataclass(frozen=True)
class ClassScore:
    """The metrics of one class against all others."""

    label: str
    support: int  # rows of this class
    precision: float | None  # None where it is undefined: no row of or predicted as this class
    recall: float | None
    specificity: (
        float | None
    )  # share of the other classes' rows that are not predicted as this class
    f1: float | None
    auc: float | None  # area under the ROC curve
    roc: list[tuple[float, float]]  # (false positive rate, true positive rate)


@dataclass(frozen=True)
class Bin:
    """Rows of similar confidence: a point of the reliability diagram."""

    rows: int
    confidence: float  # mean probability of the predicted class
    accuracy: float


@dataclass(frozen=True)
class ErrorAnalysis:
    """The errors of a model on the test rows."""

    classes: list[ClassScore]
    confusion: list[list[int]]  # [true class][predicted class], rows
    calibration_error: float  # ECE, from 0 to 1
    reliability: list[Bin]  # without empty bins, the least confident first


@dataclass(frozen=True)
class ErrorCases:
    """Indices of test rows worth reading, the most confident predictions first."""

    fixed: list[int]  # only the adapted model is correct
    broken: list[int]  # only the other model is correct
    mistakes: list[int]  # the adapted model is wrong


def analyze_errors(
    evaluation: Evaluation, labels: np.ndarray, names: Sequence[str]
) -> ErrorAnalysis:
    """Analyze the predictions of a classifier.

    Args:
        evaluation: of the classifier on the test rows.
        labels: (rows,), the true label IDs.
        names: of the classes in the order of their IDs.
    """
    from sklearn.metrics import confusion_matrix

    confusion = confusion_matrix(labels, evaluation.predictions, labels=range(len(names)))
    reliability, error = _measure_calibration(evaluation, labels)
    return ErrorAnalysis(
        classes=[
            _score_class(number, name, confusion, evaluation, labels)
            for number, name in enumerate(names)
        ],
        confusion=confusion.tolist(),
        calibration_error=error,
        reliability=reliability,
    )


def find_error_cases(adapted: Evaluation, other: Evaluation, labels: np.ndarray) -> ErrorCases:
    """Find rows where only one of two models is correct, and the adapted model's errors.

    Args:
        adapted: evaluation of the adapted model.
        other: evaluation of another model on the same rows.
        labels: (rows,), the true label IDs.
    """
    is_correct, other_is_correct = adapted.predictions == labels, other.predictions == labels
    confidence = adapted.probabilities.max(axis=1)

    def most_confident(is_case: np.ndarray) -> list[int]:
        rows = np.flatnonzero(is_case)
        return rows[np.argsort(-confidence[rows], kind="stable")][:MAX_CASES].tolist()

    return ErrorCases(
        fixed=most_confident(is_correct & ~other_is_correct),
        broken=most_confident(~is_correct & other_is_correct),
        mistakes=most_confident(~is_correct),
    )


def _score_class(
    number: int, name: str, confusion: np.ndarray, evaluation: Evaluation, labels: np.ndarray
) -> ClassScore:
    from sklearn.metrics import roc_auc_score, roc_curve

    true_positives = int(confusion[number, number])
    support, predicted = int(confusion[number].sum()), int(confusion[:, number].sum())
    others = len(labels) - support
    auc, roc = None, []
    if support and others:
        is_class, scores = labels == number, evaluation.probabilities[:, number]
        auc = float(roc_auc_score(is_class, scores))
        false_rate, true_rate, _ = roc_curve(is_class, scores)
        kept = np.unique(np.linspace(0, len(false_rate) - 1, MAX_ROC_POINTS).round().astype(int))
        roc = list(zip(false_rate[kept].tolist(), true_rate[kept].tolist(), strict=True))
    return ClassScore(
        name,
        support,
        precision=_share(true_positives, predicted),
        recall=_share(true_positives, support),
        specificity=_share(others - (predicted - true_positives), others),
        f1=_share(2 * true_positives, support + predicted),
        auc=auc,
        roc=roc,
    )


def _share(part: int, total: int) -> float | None:
    return part / total if total else None


def _measure_calibration(evaluation: Evaluation, labels: np.ndarray) -> tuple[list[Bin], float]:
    """Bin rows by confidence, and compute the expected calibration error (ECE).

    ECE is the mean over rows of |mean confidence - accuracy| of the row's bin.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    confidence = evaluation.probabilities.max(axis=1)
    is_correct = evaluation.predictions == labels
    bin_numbers = np.minimum((confidence * BINS).astype(int), BINS - 1)  # (rows,)
    bins = [
        Bin(int(in_bin.sum()), float(confidence[in_bin].mean()), float(is_correct[in_bin].mean()))
        for in_bin in (bin_numbers == number for number in range(BINS))
        if in_bin.any()
    ]
    error = sum(b.rows * abs(b.confidence - b.accuracy) for b in bins) / len(labels)
    return bins, float(error)
