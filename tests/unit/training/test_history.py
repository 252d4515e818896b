"""The history of a training, from the log of transformers.Trainer."""

from lora_tune.training.history import format_evaluation, list_evaluations, list_steps

LOG = [
    {"loss": 0.8, "learning_rate": 2e-4, "epoch": 0.5, "step": 5},
    {"loss": 0.6, "learning_rate": 1e-4, "epoch": 1.0, "step": 10},
    {"eval_loss": 0.65, "eval_accuracy": 0.75, "epoch": 1.0, "step": 10},
    {"eval_loss": 0.6, "eval_accuracy": 0.5, "epoch": 2.0, "step": 20},
    {"train_runtime": 3.0, "epoch": 2.0, "step": 20},
]


def test_an_evaluation_has_the_mean_training_loss_since_the_last_one():
    first, second = list_evaluations(LOG)
    assert first == {
        "epoch": 1.0,
        "step": 10,
        "train_loss": 0.7,
        "validation_loss": 0.65,
        "accuracy": 0.75,
    }
    assert second == {"epoch": 2.0, "step": 20, "validation_loss": 0.6, "accuracy": 0.5}


def test_steps_are_those_with_a_training_loss():
    assert [(row["step"], row["train_loss"]) for row in list_steps(LOG)] == [(5, 0.8), (10, 0.6)]


def test_a_progress_line():
    (first, _) = list_evaluations(LOG)
    line = "epoch 1/3  train loss 0.700  validation loss 0.650  accuracy 0.750"
    assert format_evaluation(first, 3) == line
