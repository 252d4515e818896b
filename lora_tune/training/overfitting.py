"""Whether training was too short or too long: the warnings of underfitting and overfitting."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_tune.training.history import History

if TYPE_CHECKING:
    from transformers import TrainingArguments

MIN_RISE = 0.02  # of the validation loss above its lowest, as a share; less is noise
MIN_FALL = 0.03  # of the validation loss below that of a constant prediction, as a share


@dataclass(frozen=True)
class Overfitting:
    """What the losses say about a run's length."""

    best_epoch: float | None  # of the lowest validation loss; None: never evaluated
    kept_epoch: float | None  # whose weights the adapter has
    warning: str | None  # None: neither underfitting nor overfitting


def check_overfitting(
    history: History, arguments: "TrainingArguments", constant_loss: float | None
) -> Overfitting:
    """Check a history for underfitting and overfitting.

    Args:
        arguments: Trainer's, whose metric_for_best_model chose the best step.
        constant_loss: of predicting the same for all rows; None: not known.
    """
    evaluations, best_step = history.evaluations, history.best_step
    if not evaluations:
        return Overfitting(None, None, None)
    last = evaluations[-1]
    best = min(evaluations, key=lambda row: row["validation_loss"])
    kept = next((row for row in evaluations if row["step"] == best_step), last)
    rose = last["validation_loss"] > (1 + MIN_RISE) * best["validation_loss"]
    fell = "train_loss" in last and last["train_loss"] < best.get("train_loss", float("-inf"))
    warning = None
    if constant_loss is not None and best["validation_loss"] > (1 - MIN_FALL) * constant_loss:
        is_above = best["validation_loss"] >= constant_loss
        place = "above" if is_above else f"less than {MIN_FALL:.0%} below"
        warning = (
            f"Underfitting: the lowest validation loss, {best['validation_loss']:.3f} at epoch "
            f"{best['epoch']:g}, is {place} the loss of a constant "
            f"prediction, {constant_loss:.3f}. What helps: more epochs, a higher "
            "training.learning_rate, a smaller batch."
        )
    elif rose and fell:
        advice = "more rows, fewer epochs, a smaller lora.rank, more lora.dropout"
        if best_step is None:
            advice += ", or training.load_best_model_at_end=true"
        elif kept["step"] > best["step"]:
            advice += ", or training.metric_for_best_model=loss to keep the earlier weights"
        name = str(arguments.metric_for_best_model).removeprefix("eval_").replace("_", " ")
        reason = "the last" if best_step is None else f"the best by {name}"
        warning = (
            f"Overfitting: from epoch {best['epoch']:g} to {last['epoch']:g} the training loss "
            f"fell from {best['train_loss']:.3f} to {last['train_loss']:.3f}, but the validation "
            f"loss rose from {best['validation_loss']:.3f} to {last['validation_loss']:.3f}. The "
            f"adapter kept is that of epoch {kept['epoch']:g}, {reason}. What helps: {advice}."
        )
    return Overfitting(best["epoch"], kept["epoch"], warning)
