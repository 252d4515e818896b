"""Extracts the evaluations and the losses of a training from Trainer's log."""

from dataclasses import dataclass


@dataclass(frozen=True)
class History:
    """The losses and metrics of a training, in order."""

    evaluations: list[dict[str, float]]  # epoch, step, train_loss, validation_loss, metrics
    # epoch, step, train_loss (the mean since the previous entry), learning_rate
    steps: list[dict[str, float]]
    best_step: int | None  # the step whose weights are kept; None: the last step
    last_step: int
    train_seconds: float  # including validation
    is_refitted: bool = False  # whether a second training, for the kept steps, gave the weights

    @property
    def kept_step(self) -> int:
        """The step whose weights are kept."""
        return self.last_step if self.best_step is None else self.best_step


def list_evaluations(log: list[dict[str, float]]) -> list[dict[str, float]]:
    """List the evaluations, each with the mean training loss since the previous one."""
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
    """List the logged training losses and learning rates."""
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


def format_evaluation(row: dict[str, float], epochs: float) -> str:
    """Format the losses and metrics of an evaluation as one line.

    Args:
        row: from `list_evaluations`.
        epochs: the number of epochs to train.
    """
    parts = [f"epoch {row['epoch']:.4g}/{epochs:g}"]
    for key, value in row.items():
        if key not in ("epoch", "step"):
            parts.append(f"{key.replace('_', ' ')} {value:.3f}")
    return "  ".join(parts)
