"""Warnings of overfitting and underfitting, from the losses of a run."""

from types import SimpleNamespace

import pytest

from lora_tune.training.history import History
from lora_tune.training.overfitting import check_overfitting


def check(train, validation, best_step=None):
    """Check the losses of each epoch, of ten steps each."""
    evaluations = [
        {"epoch": i + 1.0, "step": 10 * (i + 1), "train_loss": t, "validation_loss": v}
        for i, (t, v) in enumerate(zip(train, validation, strict=True))
    ]
    history = History(evaluations, steps=[], best_step=best_step, train_seconds=1.0)
    arguments = SimpleNamespace(metric_for_best_model="accuracy")
    return check_overfitting(history, arguments, constant_loss=0.69)


def test_losses_that_diverge():
    found = check([0.6, 0.3, 0.1], [0.4, 0.3, 0.5], best_step=30)
    assert (found.best_epoch, found.kept_epoch) == (2, 3)
    assert found.warning == (
        "Overfitting: from epoch 2 to 3 the training loss fell from 0.300 to 0.100, but the "
        "validation loss rose from 0.300 to 0.500. The adapter kept is that of epoch 3, the best "
        "by accuracy. What helps: more rows, fewer epochs, a smaller lora.rank, more "
        "lora.dropout, or training.metric_for_best_model=loss to keep the earlier weights."
    )
    assert "epoch 3, the last. What" in check([0.6, 0.3, 0.1], [0.4, 0.3, 0.5]).warning
    assert "or training.metric" not in check([0.6, 0.3, 0.1], [0.4, 0.3, 0.5], 20).warning


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        ([0.6, 0.4, 0.3], [0.5, 0.4, 0.35]),  # both fall
        ([0.6, 0.4, 0.3], [0.5, 0.40, 0.405]),  # noise
        ([0.6, 0.3, 0.4], [0.5, 0.3, 0.5]),  # both rise
    ],
)
def test_losses_that_do_not_diverge(train, validation):
    assert check(train, validation).warning is None


def test_underfitting():
    found = check([0.70, 0.69, 0.69], [0.694, 0.696, 0.69])
    assert found.warning.startswith("Underfitting: the lowest validation loss, 0.690 at epoch 3")


def test_a_loss_above_that_of_a_constant_prediction_is_called_so():
    found = check([1.40, 1.39, 1.38], [1.36, 1.352, 1.37])
    assert "1.352 at epoch 2, is above the loss of a constant prediction, 0.690" in found.warning


def test_a_run_without_evaluations():
    assert check([], []).warning is None
