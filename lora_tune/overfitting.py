"""Whether training stopped too early or went on past the point where it helped."""

from collections.abc import Sequence
from dataclasses import dataclass

RISE = 0.02  # of the validation loss above its best, as a share; less is noise
LEAST_FALL = 0.03  # of the validation loss below that of knowing nothing, as a share


@dataclass(frozen=True)
class Overfitting:
    """What the losses say of a run's length."""

    best_epoch: float | None  # of the lowest validation loss; None: never evaluated
    kept_epoch: float | None  # whose weights the adapter has
    warning: str | None  # None: training went on as it should


def judge_losses(
    evaluations: Sequence[dict[str, float]],
    best_step: int | None,
    *,
    metric: str,
    idle_loss: float | None,
) -> Overfitting:
    """Judge a history.

    Args:
        evaluations: epoch, step, train_loss and validation_loss of each.
        best_step: whose weights were kept; None for the last.
        metric: that chose it.
        idle_loss: of answering all rows alike; None: not known.
    """
    if not evaluations:
        return Overfitting(None, None, None)
    last = evaluations[-1]
    best = min(evaluations, key=lambda row: row["validation_loss"])
    kept = next((row for row in evaluations if row["step"] == best_step), last)
    rose = last["validation_loss"] > (1 + RISE) * best["validation_loss"]
    fell = "train_loss" in last and last["train_loss"] < best.get("train_loss", float("-inf"))
    warning = None
    if idle_loss is not None and best["validation_loss"] > (1 - LEAST_FALL) * idle_loss:
        warning = (
            f"Hardly learnt: the lowest validation loss, {best['validation_loss']:.3f} at epoch "
            f"{best['epoch']:g}, is not even {LEAST_FALL:.0%} below that of answering all rows "
            f"alike, {idle_loss:.3f}. What helps: more epochs, a higher training.learning_rate, a "
            "smaller batch."
        )
    elif rose and fell:
        advice = "more rows, fewer epochs, a smaller lora.rank, more lora.dropout"
        if best_step is None:
            advice += ", or training.load_best_model_at_end=true"
        elif kept["step"] > best["step"]:
            advice += ", or training.metric_for_best_model=loss to keep the earlier weights"
        name = metric.removeprefix("eval_").replace("_", " ")
        reason = "the last" if best_step is None else f"the best by {name}"
        warning = (
            f"Overfitting: from epoch {best['epoch']:g} to {last['epoch']:g} the training loss "
            f"fell from {best['train_loss']:.3f} to {last['train_loss']:.3f}, but the validation "
            f"loss rose from {best['validation_loss']:.3f} to {last['validation_loss']:.3f}. The "
            f"adapter kept is that of epoch {kept['epoch']:g}, {reason}. What helps: {advice}."
        )
    return Overfitting(best["epoch"], kept["epoch"], warning)
