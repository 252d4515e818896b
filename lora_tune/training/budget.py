"""The length of a training: epochs by the number of rows, and which evaluations are kept.

Source: Mosbach et al. 2021, arXiv 2006.04884, and Zhang et al. 2021, arXiv 2006.05987: on few rows,
three epochs are too few steps to converge.
"""

import math
from dataclasses import dataclass
from typing import Any

# Optimizer steps: for each label, and in all. benchmarks/quality/defaults.py compares them with
# others.
STEPS_PER_LABEL = 20
FEWEST_STEPS, MOST_STEPS = 150, 300
MIN_EPOCHS, MAX_EPOCHS = 3, 30
PATIENCE = 5  # evaluations
# Keys of `training:` for a training whose number of steps is known.
NO_EVALUATION = {
    "eval_strategy": "no",
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "early_stopping_patience": None,
}


@dataclass(frozen=True)
class Budget:
    """How long to train, and how to choose among the evaluations."""

    epochs: float
    keeps_best: bool  # whether the weights of the best evaluation are kept, instead of the last
    patience: int | None  # evaluations without improvement before training stops; None: never

    def settings(self) -> dict[str, Any]:
        """The keys of the `training:` section that it sets."""
        return {
            "num_train_epochs": self.epochs,
            "load_best_model_at_end": self.keeps_best,
            "early_stopping_patience": self.patience,
        }


def resolve_budget(
    settings: dict[str, Any], *, rows: int, can_select: bool, labels: int = 0, devices: int = 1
) -> Budget:
    """Fill in what a recipe's `training:` section leaves open about the length of training.

    Args:
        settings: of the section.
        rows: of train.
        can_select: whether there are enough validation rows to choose an evaluation.
        labels: that the head distinguishes.
        devices: that share a step, each with a batch of its own.
    """
    epochs, patience = settings["num_train_epochs"], settings["early_stopping_patience"]
    keeps_best = settings["load_best_model_at_end"]
    evaluates = settings["eval_strategy"] != "no"
    has_automatic_length = epochs is None and not (settings.get("max_steps") or 0) > 0
    if keeps_best is None:
        # TrainingArguments checks that evaluations and checkpoints fit each other.
        saves = settings["save_strategy"] != "no"
        keeps_best = evaluates and saves and (can_select or patience is not None)
    if patience is None and has_automatic_length and keeps_best:
        patience = PATIENCE
    if epochs is None:
        accumulation = settings.get("gradient_accumulation_steps") or 1
        batch = settings["per_device_train_batch_size"] * accumulation * devices
        steps = max(FEWEST_STEPS, min(MOST_STEPS, STEPS_PER_LABEL * labels))
        needed = math.ceil(steps / math.ceil(rows / batch))
        epochs = max(MIN_EPOCHS, min(MAX_EPOCHS, needed))
    return Budget(epochs, keeps_best, patience)
