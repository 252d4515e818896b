"""What is said of a run's length, from its losses."""

import pytest

from lora_tune.overfitting import judge_losses


def history(train, validation):
    return [
        {"epoch": i + 1.0, "step": 10 * (i + 1), "train_loss": t, "validation_loss": v}
        for i, (t, v) in enumerate(zip(train, validation, strict=True))
    ]


def judge(train, validation, best_step=None):
    return judge_losses(history(train, validation), best_step, metric="accuracy", idle_loss=0.69)


def test_losses_that_part():
    found = judge([0.6, 0.3, 0.1], [0.4, 0.3, 0.5], best_step=30)
    assert (found.best_epoch, found.kept_epoch) == (2, 3)
    assert found.warning == (
        "Overfitting: from epoch 2 to 3 the training loss fell from 0.300 to 0.100, but the "
        "validation loss rose from 0.300 to 0.500. The adapter kept is that of epoch 3, the best "
        "by accuracy. What helps: more rows, fewer epochs, a smaller lora.rank, more "
        "lora.dropout, or training.metric_for_best_model=loss to keep the earlier weights."
    )
    assert "epoch 3, the last. What" in judge([0.6, 0.3, 0.1], [0.4, 0.3, 0.5]).warning
    assert "or training.metric" not in judge([0.6, 0.3, 0.1], [0.4, 0.3, 0.5], 20).warning


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        ([0.6, 0.4, 0.3], [0.5, 0.4, 0.35]),  # both fall
        ([0.6, 0.4, 0.3], [0.5, 0.40, 0.405]),  # noise
        ([0.6, 0.3, 0.4], [0.5, 0.3, 0.5]),  # both rise
    ],
)
def test_losses_that_do_not(train, validation):
    assert judge(train, validation).warning is None


def test_nothing_learnt():
    found = judge([0.70, 0.69, 0.69], [0.694, 0.696, 0.69])
    assert found.warning.startswith("Hardly learnt: the lowest validation loss, 0.690 at epoch 3")


def test_a_run_without_evaluations():
    assert judge([], []).warning is None
