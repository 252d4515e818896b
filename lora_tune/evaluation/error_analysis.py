"""Errors of a model: by class, by confidence, and row by row."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lora_tune.data.rows import Split
from lora_tune.evaluation.model_evaluation import Evaluation
from lora_tune.metrics.classification import sigmoid, softmax

MAX_BINS = 10  # of confidence, with about equally many rows
MIN_BIN_ROWS = 10  # on average
MAX_CASES = 10  # rows of each kind
MAX_ROC_POINTS = 200  # of a curve
MIN_SUPPORT = 5  # rows or entities, below which a class is the worst only if there is no other
GROUP_TITLES = {"labels": "label", "tags": "entity type"}  # by output kind


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
    confidence: np.ndarray  # (rows,), of the adapted model, from 0 to 1


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


def summarize_errors(evaluation: Evaluation, split: Split) -> str:
    """Name the worst class and the commonest confusion, or the worst label or entity type.

    Returns:
        A line; empty where the task has none of these.
    """
    task = evaluation.task
    if task.has_classes:
        return _summarize_confusion(evaluation, split)
    groups = task.metrics_by_group(evaluation.outputs, split)
    if task.output_kind not in GROUP_TITLES or not groups:
        return ""
    name, support, *_ = groups[0]
    scored = [group for group in groups if group["f1"] is not None and group[support]]
    if not scored:
        return ""
    frequent = [group for group in scored if group[support] >= MIN_SUPPORT] or scored
    among = _describe_frequent(len(frequent) < len(scored), support)
    worst = min(frequent, key=lambda group: group["f1"])
    return (
        f"Worst {GROUP_TITLES[task.output_kind]}{among}: {worst[name]}, F1 {worst['f1']:.3f} "
        f"({worst[support]:,} {support})."
    )


def _describe_frequent(are_some: bool, unit: str) -> str:
    return f" of those with {MIN_SUPPORT} {unit} or more" if are_some else ""


def _summarize_confusion(evaluation: Evaluation, split: Split) -> str:
    from sklearn.metrics import confusion_matrix

    labels, names = split.rows.labels, split.rows.label_names
    confusion = confusion_matrix(labels, evaluation.predictions, labels=range(len(names)))
    support, correct = confusion.sum(axis=1), confusion.diagonal()
    errors = confusion - np.diag(correct)
    if not errors.any():
        return "No test row is misclassified."
    present = np.flatnonzero(support)
    frequent = np.flatnonzero(support >= MIN_SUPPORT)
    frequent = frequent if len(frequent) else present
    among = _describe_frequent(len(frequent) < len(present), "rows")
    worst = min(frequent, key=lambda number: correct[number] / support[number])
    true, predicted = divmod(int(errors.argmax()), len(names))
    return (
        f"Worst class{among}: {names[worst]}, recall {correct[worst] / support[worst]:.3f} "
        f"({correct[worst]:,} of {support[worst]:,} rows). Commonest confusion: {names[true]} as "
        f"{names[predicted]}, {errors[true, predicted]:,} of {support[true]:,} rows."
    )


def find_error_cases(adapted: Evaluation, other: Evaluation, split: Split) -> ErrorCases:
    """Find rows where only one of two models is correct, and the adapted model's errors.

    Args:
        adapted: evaluation of the adapted model.
        other: evaluation of another model on the same rows.
        split: the rows, which have classes, labels or tags.
    """
    is_correct, confidence = _judge_rows(adapted, split)
    other_is_correct, _ = _judge_rows(other, split)

    def most_confident(is_case: np.ndarray) -> list[int]:
        rows = np.flatnonzero(is_case)
        return rows[np.argsort(-confidence[rows], kind="stable")][:MAX_CASES].tolist()

    return ErrorCases(
        fixed=most_confident(is_correct & ~other_is_correct),
        broken=most_confident(~is_correct & other_is_correct),
        mistakes=most_confident(~is_correct),
        confidence=confidence,
    )


def _judge_rows(evaluation: Evaluation, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Whether all decisions of each row are correct, and how confident it is, (rows,) both.

    A row's confidence is the probability of its most confident error; where it has none, of its
    least confident decision.
    """
    task = evaluation.task
    is_correct, confidence = np.ones(len(evaluation.outputs), bool), np.zeros(len(split.rows.texts))
    for row, (outputs, labels) in enumerate(
        zip(evaluation.outputs, split.rows.labels, strict=True)
    ):
        if not len(outputs):  # all words are truncated
            continue
        decisions = task.decide(outputs)
        # Truncated words have no outputs.
        errors = decisions != np.atleast_1d(labels)[: len(decisions)]
        if task.output_kind == "labels":
            (shares,) = sigmoid(outputs)
            shares = np.where(decisions, shares, 1 - shares)
        else:
            shares = softmax(outputs).max(axis=1)
        is_correct[row] = not errors.any()
        confidence[row] = shares[errors].max() if errors.any() else shares.min()
    return is_correct, confidence


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

    ECE is the mean over rows of |mean confidence - accuracy| of the row's bin. The bins have
    about equally many rows, so that none is too small to judge.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks"; Nguyen and O'Connor 2015,
    "Posterior calibration and exploratory analysis for natural language processing models" (bins
    of equal mass).
    """
    confidence = evaluation.probabilities.max(axis=1)
    is_correct = evaluation.predictions == labels
    count = max(1, min(MAX_BINS, len(labels) // MIN_BIN_ROWS))
    # Between bins; rows of equal confidence are in one bin.
    edges = np.quantile(confidence, np.arange(1, count) / count, method="inverted_cdf")
    bin_numbers = np.searchsorted(edges, confidence, side="left")  # (rows,)
    bins = [
        Bin(int(in_bin.sum()), float(confidence[in_bin].mean()), float(is_correct[in_bin].mean()))
        for in_bin in (bin_numbers == number for number in range(count))
        if in_bin.any()
    ]
    error = sum(b.rows * abs(b.confidence - b.accuracy) for b in bins) / len(labels)
    return bins, float(error)
