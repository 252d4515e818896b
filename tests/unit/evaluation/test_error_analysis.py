"""Class metrics agree with scikit-learn, calibration and errors with cases by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import classification_report, roc_auc_score

from lora_tune.evaluation.error_analysis import (
    analyze_errors,
    find_error_cases,
    summarize_errors,
)
from lora_tune.tasks import make_task
from tests.answers import evaluate_logits
from tests.unit.rows import evaluate, make_split

NAMES = ["a", "b", "c"]


def evaluate_random(seed, rows=300, classes=3):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, rows)
    logits = random.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[labels]
    return evaluate_logits(logits), labels


@pytest.mark.parametrize("seed", range(5))
def test_class_metrics_are_those_of_scikit_learn(seed):
    evaluation, labels = evaluate_random(seed)
    found = analyze_errors(evaluation, labels, NAMES)
    report = classification_report(
        labels, evaluation.predictions, target_names=NAMES, output_dict=True
    )
    for number, score in enumerate(found.classes):
        expected = report[score.label]
        assert score.precision == pytest.approx(expected["precision"], abs=1e-9)
        assert score.recall == pytest.approx(expected["recall"], abs=1e-9)
        assert score.f1 == pytest.approx(expected["f1-score"], abs=1e-9)
        assert score.support == expected["support"]
        # Specificity is the recall of the other classes together.
        others, rejected = labels != number, evaluation.predictions != number
        assert score.specificity == pytest.approx(
            (others & rejected).sum() / others.sum(), abs=1e-9
        )
        auc = roc_auc_score(labels == number, evaluation.probabilities[:, number])
        assert score.auc == pytest.approx(auc, abs=1e-9)
        area = np.trapezoid([y for _, y in score.roc], [x for x, _ in score.roc])
        assert area == pytest.approx(auc, abs=0.01)  # thinned to 200 points
    assert np.sum(found.confusion) == len(labels)
    assert np.trace(found.confusion) == (evaluation.predictions == labels).sum()


def test_calibration_by_hand():
    """Twenty rows in two bins of ten: confidence 0.6 and right, 0.9 and half of them wrong."""
    first = np.array([0.6, 0.9] * 10)
    labels = np.where(np.arange(20) % 4 == 3, 1, 0)
    probabilities = np.stack([first, 1 - first], axis=1)
    found = analyze_errors(evaluate_logits(np.log(probabilities)), labels, ["a", "b"])
    assert [(b.rows, round(b.confidence, 3), b.accuracy) for b in found.reliability] == [
        (10, 0.6, 1.0),
        (10, 0.9, 0.5),
    ]
    assert found.calibration_error == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)


@pytest.mark.parametrize(("rows", "bins"), [(5, 1), (19, 1), (20, 2), (95, 9), (730, 10)])
def test_calibration_bins_have_equal_mass(rows, bins):
    evaluation, labels = evaluate_random(seed=9, rows=rows)
    found = analyze_errors(evaluation, labels, NAMES).reliability
    assert len(found) == bins
    assert sum(b.rows for b in found) == rows
    assert max(b.rows for b in found) - min(b.rows for b in found) <= 1
    confidences = [b.confidence for b in found]
    assert confidences == sorted(confidences)


def test_rows_of_equal_confidence_are_in_one_bin():
    logits = np.tile([2.0, 0.0], (100, 1))
    logits[:5] = [1.0, 0.0]
    found = analyze_errors(evaluate_logits(logits), np.zeros(100, int), ["a", "b"]).reliability
    assert [b.rows for b in found] == [5, 95] or [b.rows for b in found] == [100]


def test_undefined_metrics_are_none_and_not_nan():
    evaluation = evaluate_logits(np.log([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1]]))
    found = analyze_errors(evaluation, np.array([0, 1]), NAMES)
    a, b, c = found.classes
    assert (a.precision, a.recall, a.specificity) == (0.5, 1.0, 0.0)
    assert (b.precision, b.recall, b.f1) == (None, 0.0, 0.0)
    assert (c.precision, c.recall, c.auc, c.f1) == (None, None, None, None)
    assert c.specificity == 1.0


def test_one_row():
    found = analyze_errors(evaluate_logits(np.log([[0.7, 0.3]])), np.array([0]), ["a", "b"])
    assert found.calibration_error == pytest.approx(0.3)
    assert [score.auc for score in found.classes] == [None, None]


def test_error_cases_are_sorted_by_confidence():
    split = make_split(np.array([0, 0, 0, 1, 1]), ["a", "b"])
    adapted = evaluate_logits(np.log([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]]))
    other = evaluate_logits(np.log([[0.4, 0.6], [0.4, 0.6], [0.6, 0.4], [0.4, 0.6], [0.6, 0.4]]))
    cases = find_error_cases(adapted, other, split)
    assert (cases.fixed, cases.broken, cases.mistakes) == ([1, 0], [2], [2, 4])
    assert cases.confidence == pytest.approx([0.6, 0.9, 0.8, 0.6, 0.7])


def test_error_cases_of_several_labels():
    """A row is wrong if any label is; its confidence is that of its most confident error."""
    task, names = make_task("multi_label_classification"), ["a", "b", "c"]
    true = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1]])
    odds = np.array([[3, -3, -3], [3, -1, -3], [-3, 2, 1], [-3, -3, 3]], float)
    other = np.array([[3, -3, -3], [3, 1, -3], [-3, -2, -1], [-3, -3, -3]], float)
    cases = find_error_cases(
        evaluate(task, odds, true, names),
        evaluate(task, other, true, names),
        make_split(true, names),
    )
    assert (cases.fixed, cases.broken, cases.mistakes) == ([3], [2, 1], [2, 1])
    certain = 1 / (1 + np.exp([-3.0, -1.0, -2.0, -3.0]))
    assert cases.confidence == pytest.approx(certain)


def test_error_cases_of_tags():
    """A row is wrong if any word's tag is; words without outputs are not judged."""
    task, names = make_task("token_classification"), ["O", "B-per", "I-per"]
    true = [np.array([1, 0]), np.array([0, 0, 0]), np.array([1, 2]), np.array([0, 1])]
    sure = 4 * np.eye(3)
    adapted = [sure[[1, 0]], 2 * np.eye(3)[[0, 1]], sure[[1, 0]], sure[[0]]]
    other = [sure[[0, 0]], sure[[0, 0]], sure[[0, 0]], sure[[0]]]
    split = make_split(true, names)
    cases = find_error_cases(
        *(SimpleNamespace(outputs=outputs, task=task) for outputs in (adapted, other)), split
    )
    assert (cases.fixed, cases.broken, cases.mistakes) == ([0], [1], [2, 1])


def test_the_worst_class_and_the_commonest_confusion():
    true = np.array([0] * 20 + [1] * 10 + [2] * 4)
    predicted = true.copy()
    predicted[:6] = 1  # 6 of 20
    predicted[20:25] = 2  # 5 of 10
    predicted[30:] = 0  # 4 of 4, too few rows to be the worst
    summary = summarize_errors(evaluate_logits(4 * np.eye(3)[predicted]), make_split(true, NAMES))
    assert summary == (
        "Worst class of those with 5 rows or more: b, recall 0.500 (5 of 10 rows). "
        "Commonest confusion: a as b, 6 of 20 rows."
    )
    few = summarize_errors(
        evaluate_logits(4 * np.eye(3)[[0, 0]]), make_split(np.array([0, 2]), NAMES)
    )
    assert few.startswith("Worst class: c, recall 0.000 (0 of 1 rows).")
    right = summarize_errors(evaluate_logits(4 * np.eye(3)[true]), make_split(true, NAMES))
    assert right == "No test row is misclassified."


def test_the_worst_label_and_entity_type():
    task = make_task("multi_label_classification")
    true = np.array([[1, 1, 0]] * 6 + [[0, 0, 1]] * 2)
    odds = np.where(true, 3.0, -3.0)
    odds[:3, 1] = -3  # three of six are missed
    odds[6:, 2] = -3  # a label of two rows
    found = evaluate(task, odds, true, NAMES)
    summary = summarize_errors(found, make_split(true, NAMES))
    assert summary == "Worst label of those with 5 rows or more: b, F1 0.667 (6 rows)."

    task, names = make_task("token_classification"), ["O", "B-loc", "B-per"]
    true = [np.array([1, 2])] * 6
    outputs = [4 * np.eye(3)[[1, 2 if row < 3 else 0]] for row in range(6)]
    summary = summarize_errors(SimpleNamespace(outputs=outputs, task=task), make_split(true, names))
    assert summary == "Worst entity type: per, F1 0.667 (6 entities)."


def test_numbers_have_no_worst_class():
    task = make_task("sequence_regression")
    assert (
        summarize_errors(SimpleNamespace(outputs=[], task=task), make_split(np.zeros(1), ["x"]))
        == ""
    )
