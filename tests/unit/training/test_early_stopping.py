from types import SimpleNamespace

import pytest

from lora_tune.training.early_stopping import EarlyStopping

ACCURACY = SimpleNamespace(metric_for_best_model="accuracy", greater_is_better=True)
LOSS = SimpleNamespace(metric_for_best_model="loss", greater_is_better=False)


def stops_after(losses, accuracies, *, patience=2, threshold=0.0, arguments=ACCURACY):
    """The number of evaluations after which training stops; None: it does not."""
    callback, log = EarlyStopping(patience, threshold, show=lambda _: None), []
    for step, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True)):
        log.append({"epoch": step, "step": step, "eval_loss": loss, "eval_accuracy": accuracy})
        control = SimpleNamespace(should_training_stop=False)
        callback.on_evaluate(arguments, SimpleNamespace(log_history=log), control)
        if control.should_training_stop:
            return step + 1
    return None


@pytest.mark.parametrize(
    ("losses", "accuracies", "expected"),
    [
        ([3, 2, 2, 2], [0.5, 0.5, 0.5, 0.5], 4),  # neither improves twice
        ([3, 2, 1, 0.5], [0.5, 0.5, 0.5, 0.5], None),  # the loss still falls
        ([1, 2, 3, 4], [0.5, 0.6, 0.7, 0.8], None),  # the metric still rises
        ([1, 2, 3, 4], [0.5, 0.6, 0.6, 0.6], 4),  # equal is no improvement
    ],
)
def test_it_waits_for_metric_and_loss(losses, accuracies, expected):
    assert stops_after(losses, accuracies) == expected


def test_a_metric_must_improve_by_the_threshold():
    accuracies, losses = [0.5, 0.501, 0.502], [1, 1, 1]
    assert stops_after(losses, accuracies) is None
    assert stops_after(losses, accuracies, threshold=0.01) == 3


def test_the_loss_alone_may_decide():
    assert stops_after([1, 2, 3], [0.5, 0.6, 0.7], arguments=LOSS) == 3
