import numpy as np
import pytest

from lora_tune.evaluation.model_selection import FOLDS, cross_validate, fold_rows
from lora_tune.tasks import make_task

CLASSES = make_task("sequence_classification")


def test_each_row_is_in_one_fold_and_each_class_in_all():
    labels = np.array([0] * 50 + [1] * 5)
    folds = list(fold_rows(labels))
    assert len(folds) == FOLDS
    assert np.sum(folds, axis=0).tolist() == [1] * 55
    assert [int((labels[fold] == 1).sum()) for fold in folds] == [1] * FOLDS


def test_fewer_rows_than_folds():
    assert len(list(fold_rows(np.array([0, 1])))) == 2


def test_a_row_does_not_predict_itself():
    """Features that name each row predict its label only if the row itself was fitted."""
    labels = np.arange(40) % 2
    outputs = cross_validate(np.eye(40), labels, ["a", "b"], strength=100.0, task=CLASSES)
    assert outputs.shape == (40, 2)
    assert np.abs(outputs[:, 0] - outputs[:, 1]).max() < 0.2


def test_rows_alike_predict_each_other():
    labels = np.arange(40) % 2
    features = np.stack([labels, 1 - labels], axis=1).astype(float)
    outputs = cross_validate(features, labels, ["a", "b"], strength=100.0, task=CLASSES)
    assert (outputs.argmax(axis=1) == labels).all()


@pytest.mark.parametrize("count", [2, 3])
def test_a_fold_without_a_class(count):
    labels = np.array([0] + [1] * (count - 1))
    outputs = cross_validate(np.eye(count), labels, ["a", "b"], strength=1.0, task=CLASSES)
    assert np.isfinite(outputs).all()
