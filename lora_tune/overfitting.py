"""Whether training went on past the point where it helped."""

from collections.abc import Sequence
from dataclasses import dataclass

RISE = 0.02  # of the validation loss above its best, as a share; less is noise


@dataclass(frozen=True)
class Overfitting:
    """What the losses say of a run's length."""

    best_epoch: float | None  # of the lowest validation loss; None: never evaluated
    kept_epoch: float | None  # whose weights the adapter has
    warning: str | None  # None: the losses do not part


def judge_losses(
    evaluations: Sequence[dict[str, float]], best_step: int | None, metric: str
) -> Overfitting:
    """Judge a history.

    Args:
        evaluations: epoch, step, train_loss and validation_loss of each.
        best_step: whose weights were kept; None for the last.
        metric: that chose it.
    """
    if not evaluations:
        return Overfitting(None, None, None)
    last = evaluations[-1]
    best = min(evaluations, key=lambda row: row["validation_loss"])
    kept = next((row for row in evaluations if row["step"] == best_step), last)
    rose = last["validation_loss"] > (1 + RISE) * best["validation_loss"]
    fell = "train_loss" in last and last["train_loss"] < best.get("train_loss", float("-inf"))
    warning = None
    if rose and fell:
        advice = "fewer epochs, a smaller lora.rank, more lora.dropout"
        if kept["step"] > best["step"]:
            advice += ", or training.metric_for_best_model=loss to keep the earlier weights"
        warning = (
            f"Overfitting: from epoch {best['epoch']:g} to {last['epoch']:g} the training loss "
            f"fell from {best['train_loss']:.3f} to {last['train_loss']:.3f}, but the validation "
            f"loss rose from {best['validation_loss']:.3f} to {last['validation_loss']:.3f}. The "
            f"adapter kept is that of epoch {kept['epoch']:g}, the best by "
            f"{metric.replace('_', ' ')}. What helps: more rows, {advice}."
        )
    return Overfitting(best["epoch"], kept["epoch"], warning)
