"""Class metrics agree with scikit-learn, and calibration with a case by hand."""

import numpy as np
import pytest
from sklearn.metrics import classification_report, roc_auc_score

from lora_tune.evaluation.error_analysis import analyze_errors, find_error_cases
from tests.answers import evaluate_logits

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
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.35, 0.65]])
    found = analyze_errors(
        evaluate_logits(np.log(probabilities)), np.array([0, 1, 1, 1]), ["a", "b"]
    )
    assert [(b.rows, round(b.confidence, 3), b.accuracy) for b in found.reliability] == [
        (2, 0.625, 1.0),
        (2, 0.9, 0.5),
    ]
    assert found.calibration_error == pytest.approx(0.5 * 0.375 + 0.5 * 0.4)


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
    labels = np.array([0, 0, 0, 1, 1])
    adapted = evaluate_logits(np.log([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]]))
    other = evaluate_logits(np.log([[0.4, 0.6], [0.4, 0.6], [0.6, 0.4], [0.4, 0.6], [0.6, 0.4]]))
    cases = find_error_cases(adapted, other, labels)
    assert (cases.fixed, cases.broken, cases.mistakes) == ([1, 0], [2], [2, 4])
