"""What happened while a model was trained, taken from Trainer's log."""

from dataclasses import dataclass


@dataclass(frozen=True)
class History:
    """What happened at each evaluation on validation rows, in order."""

    evaluations: list[dict[str, float]]  # epoch, step, train_loss, validation_loss, metrics
    steps: list[dict[str, float]]  # epoch, step, train_loss (mean since the last), learning_rate
    best_step: int | None  # whose weights were kept; None: the last
    train_seconds: float  # validation included


def list_evaluations(log: list[dict[str, float]]) -> list[dict[str, float]]:
    """Join each evaluation in Trainer's log with the mean training loss since the one before."""
    evaluations: list[dict[str, float]] = []
    losses: list[float] = []
    for entry in log:
        if "loss" in entry:
            losses.append(entry["loss"])
        if "eval_loss" in entry:
            row = {"epoch": entry["epoch"], "step": entry["step"]}
            if losses:
                row["train_loss"] = sum(losses) / len(losses)
                losses.clear()
            row["validation_loss"] = entry["eval_loss"]
            row |= {
                key.removeprefix("eval_"): value
                for key, value in entry.items()
                if key.startswith("eval_") and key != "eval_loss"
            }
            evaluations.append(row)
    return evaluations


def list_steps(log: list[dict[str, float]]) -> list[dict[str, float]]:
    """Take the training loss and the learning rate from Trainer's log, for each time it logged."""
    return [
        {
            "epoch": entry["epoch"],
            "step": entry["step"],
            "train_loss": entry["loss"],
            "learning_rate": entry["learning_rate"],
        }
        for entry in log
        if "loss" in entry
    ]


def tell_evaluation(row: dict[str, float], epochs: float) -> str:
    """Say in one line what an evaluation found.

    Args:
        row: of `list_evaluations`.
        epochs: that the training is to have.
    """
    words = [f"epoch {row['epoch']:.4g}/{epochs:g}"]
    for key, value in row.items():
        if key not in ("epoch", "step"):
            words.append(f"{key.replace('_', ' ')} {value:.3f}")
    return "  ".join(words)
