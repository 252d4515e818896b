"""What is said of classes agrees with scikit-learn; of confidence, with a case by hand."""

import numpy as np
import pytest
from sklearn.metrics import classification_report, roc_auc_score

from lora_tune.diagnosis import diagnose, find_cases
from tests.answers import judge_logits

NAMES = ["a", "b", "c"]


def answers(seed, rows=300, classes=3):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, rows)
    logits = random.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[labels]
    return judge_logits(logits), labels


@pytest.mark.parametrize("seed", range(5))
def test_classes_are_scikit_learns(seed):
    evaluation, labels = answers(seed)
    found = diagnose(evaluation, labels, NAMES)
    report = classification_report(
        labels, evaluation.predictions, target_names=NAMES, output_dict=True
    )
    for number, score in enumerate(found.classes):
        expected = report[score.label]
        assert score.precision == pytest.approx(expected["precision"], abs=1e-9)
        assert score.recall == pytest.approx(expected["recall"], abs=1e-9)
        assert score.f1 == pytest.approx(expected["f1-score"], abs=1e-9)
        assert score.support == expected["support"]
        # Specificity is the recall of "another class".
        others, called = labels != number, evaluation.predictions != number
        assert score.specificity == pytest.approx((others & called).sum() / others.sum(), abs=1e-9)
        auc = roc_auc_score(labels == number, evaluation.probabilities[:, number])
        assert score.auc == pytest.approx(auc, abs=1e-9)
        area = np.trapezoid([y for _, y in score.roc], [x for x, _ in score.roc])
        assert area == pytest.approx(auc, abs=0.01)  # thinned to 200 points
    assert np.sum(found.confusion) == len(labels)
    assert np.trace(found.confusion) == (evaluation.predictions == labels).sum()


def test_calibration_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.35, 0.65]])
    found = diagnose(judge_logits(np.log(probabilities)), np.array([0, 1, 1, 1]), ["a", "b"])
    assert [(b.rows, round(b.confidence, 3), b.accuracy) for b in found.reliability] == [
        (2, 0.625, 1.0),
        (2, 0.9, 0.5),
    ]
    assert found.calibration_error == pytest.approx(0.5 * 0.375 + 0.5 * 0.4)


def test_a_class_without_rows_and_one_never_predicted_have_words_not_nan():
    evaluation = judge_logits(np.log([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1]]))
    found = diagnose(evaluation, np.array([0, 1]), NAMES)
    a, b, c = found.classes
    assert (a.precision, a.recall, a.specificity) == (0.5, 1.0, 0.0)
    assert (b.precision, b.recall, b.f1) == (None, 0.0, 0.0)
    assert (c.precision, c.recall, c.auc, c.f1) == (None, None, None, None)
    assert c.specificity == 1.0


def test_one_row():
    found = diagnose(judge_logits(np.log([[0.7, 0.3]])), np.array([0]), ["a", "b"])
    assert found.calibration_error == pytest.approx(0.3)
    assert [score.auc for score in found.classes] == [None, None]


def test_cases_are_ordered_by_confidence():
    labels = np.array([0, 0, 0, 1, 1])
    adapted = judge_logits(np.log([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]]))
    other = judge_logits(np.log([[0.4, 0.6], [0.4, 0.6], [0.6, 0.4], [0.4, 0.6], [0.6, 0.4]]))
    cases = find_cases(adapted, other, labels, against="words")
    assert (cases.fixed, cases.broken, cases.mistakes) == ([1, 0], [2], [2, 4])
