"""Stops a training when neither the validation metric nor the validation loss improves."""

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lora_tune.training.history import list_evaluations


class EarlyStopping(TrainerCallback):
    """Stops after a number of evaluations without improvement."""

    def __init__(self, patience: int, threshold: float, *, show: Callable[[str], None]) -> None:
        """Make the callback.

        Args:
            patience: evaluations without improvement before training stops.
            threshold: by which the metric has to improve.
            show: shows a line, where training stops.
        """
        self.patience, self.threshold, self.show = patience, threshold, show

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Decide by all evaluations until now; called by Trainer."""
        evaluations = list_evaluations(state.log_history)
        name = str(args.metric_for_best_model).removeprefix("eval_")
        name = "validation_loss" if name == "loss" else name
        sign = 1 if args.greater_is_better else -1
        improved = max(
            _last_improvement([sign * row[name] for row in evaluations], self.threshold),
            _last_improvement([-row["validation_loss"] for row in evaluations], 0.0),
        )
        if len(evaluations) - 1 - improved >= self.patience:
            control.should_training_stop = True
            self.show(f"Stopped early: no improvement in the last {self.patience} evaluations.")


def _last_improvement(values: list[float], threshold: float) -> int:
    """Find the last of some values that is above the best before it by more than a threshold."""
    best, last = values[0], 0
    for number, value in enumerate(values):
        if value > best + threshold:
            best, last = value, number
    return last
