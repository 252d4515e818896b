"""Whether training was too short or too long: the warnings of underfitting and overfitting."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from lora_tune.metrics.metric import PERPLEXITY, Metric
from lora_tune.training.history import History

if TYPE_CHECKING:
    from transformers import TrainingArguments

# Shares of a validation loss; less is noise, however many rows there are.
MIN_RISE = 0.02  # above its lowest
MIN_FALL = 0.02  # at the end of training, below the lowest before
MIN_GAIN = 0.03  # below the loss of a constant prediction
END = 0.2  # of the steps, the share that is the end of training

# Fewer validation rows show no overfitting: the standard error of their mean loss is 14 % or more.
MIN_ROWS = 50
# The standard deviation over rows of a row's loss, as a share of the mean: 1 as in an exponential
# distribution; less where a row's loss is itself a mean over the tokens of a text.
ROW_SPREAD, TEXT_SPREAD = 1.0, 0.3
# That of the change between two evaluations, as a share of the above: with a correlation r, it is
# sqrt(2 - 2 r). Assumed: r = 0.5 where the evaluations are far apart, 0.95 near each other.
FAR_CHANGE, NEAR_CHANGE = 1.0, 0.3


@dataclass(frozen=True)
class Overfitting:
    """What the losses and metrics say about a run's length."""

    best_epoch: float | None  # of the lowest validation loss; None: never evaluated
    kept_epoch: float | None  # whose weights the adapter has; None: nothing was logged
    kept_step: int | None
    kept: str  # in words, whose weights the adapter has and why
    warning: str | None  # None: neither underfitting nor overfitting

    @property
    def message(self) -> str:
        """What a run shows of it."""
        return "\n".join([self.kept, *([self.warning] if self.warning else [])])


@dataclass(frozen=True)
class ConstantComparison:
    """LoRA and a constant prediction on the test rows: was anything learned?"""

    metric: Metric  # the primary metric
    adapted: Mapping[str, float]
    constant: Mapping[str, float] | None  # None: the task has no such baseline


def check_overfitting(
    history: History,
    arguments: "TrainingArguments",
    *,
    metric: Metric,
    validation_rows: int,
    against_constant: ConstantComparison,
) -> Overfitting:
    """Check a history for underfitting and overfitting.

    Overfitting: the training loss is below the validation loss and falls while the validation loss
    rises by two standard errors, and the metric no longer improves. Underfitting: the validation
    loss still falls at the end, or LoRA is no better than a constant prediction. Overconfident: it
    is better by the metric, but its test loss is above a constant prediction's.

    Args:
        arguments: Trainer's, whose metric_for_best_model chose the best step.
        metric: of the validation rows, among the evaluations.
        validation_rows: how many there are.
        against_constant: shows whether LoRA learned anything.
    """
    evaluations = history.evaluations
    kept = _kept_evaluation(history)
    noise = (TEXT_SPREAD if metric == PERPLEXITY else ROW_SPREAD) / sqrt(max(1, validation_rows))
    warning = None
    if evaluations:
        warning = (
            (validation_rows >= MIN_ROWS and _find_overfitting(history, arguments, metric, noise))
            or _find_no_gain(history, arguments, against_constant)
            or _find_falling_loss(history, arguments, noise)
            or _find_overconfidence(against_constant)
        )
    best = min(evaluations, key=lambda row: row["validation_loss"], default=None)
    return Overfitting(
        best_epoch=None if best is None else best["epoch"],
        kept_epoch=None if kept is None else kept["epoch"],
        kept_step=None if kept is None else int(kept["step"]),
        kept=_describe_kept(kept, history, arguments),
        warning=warning,
    )


def _kept_evaluation(history: History) -> Mapping[str, float] | None:
    """The evaluation or logged step whose weights the adapter has."""
    logged = [*history.evaluations, *history.steps]
    if history.best_step is not None:
        return next((row for row in logged if row["step"] == history.best_step), None)
    return max(logged, key=lambda row: row["step"], default=None)


def _describe_kept(
    kept: Mapping[str, float] | None, history: History, arguments: "TrainingArguments"
) -> str:
    if kept is None:
        return "Kept: the weights of the last step."
    place = f"step {kept['step']:g} (epoch {kept['epoch']:.3g})"
    count = len(history.evaluations)
    evaluations = f"{count} evaluations" if count > 1 else "one evaluation"
    by_metric = f"the best of {evaluations} by validation {_best_metric(arguments)}"
    if history.is_refitted:
        reason = "" if history.best_step is None else f": in the first training, {by_metric}"
        return (
            "Kept: the weights of the training on train and validation rows after "
            f"{kept['step']:g} steps{reason}."
        )
    if history.best_step is None:
        return f"Kept: the weights of the last step, {place.removeprefix('step ')}."
    return f"Kept: the weights of {place}, {by_metric}."


def _best_metric(arguments: "TrainingArguments") -> str:
    return str(arguments.metric_for_best_model).removeprefix("eval_").replace("_", " ")


def _find_overfitting(
    history: History, arguments: "TrainingArguments", metric: Metric, noise: float
) -> str | None:
    """Compare the last evaluation with that of the lowest validation loss.

    Args:
        noise: the standard error of the validation loss, as a share of it.
    """
    evaluations = history.evaluations
    last, best = evaluations[-1], min(evaluations, key=lambda row: row["validation_loss"])
    if "train_loss" not in last or "train_loss" not in best:
        return None
    rise = max(MIN_RISE, 2 * FAR_CHANGE * noise)
    if last["validation_loss"] <= (1 + rise) * best["validation_loss"]:
        return None
    if last["train_loss"] >= min(best["train_loss"], last["validation_loss"]):
        return None
    if _still_improves(evaluations, best, metric):
        return None
    if history.is_refitted:  # for the kept steps alone
        return None
    advice = "more rows, less training, a smaller lora.rank, more lora.dropout"
    kept = _kept_evaluation(history)
    if history.best_step is None:
        advice += ", or training.load_best_model_at_end=true"
    elif kept and kept["step"] > best["step"]:
        advice += ", or training.metric_for_best_model=loss to keep the earlier weights"
    return (
        f"Overfitting: from epoch {best['epoch']:.3g} to {last['epoch']:.3g} the training loss "
        f"fell from {best['train_loss']:.3f} to {last['train_loss']:.3f}, but the validation "
        f"loss rose from {best['validation_loss']:.3f} to {last['validation_loss']:.3f}. What "
        f"helps: {advice}."
    )


def _still_improves(
    evaluations: list[dict[str, float]], best: Mapping[str, float], metric: Metric
) -> bool:
    """Whether the metric is at its best at the end, and better than at the lowest loss."""
    if metric.name not in best:
        return False
    sign = -1 if metric.lower_is_better else 1
    values = [sign * row[metric.name] for row in evaluations]
    return values[-1] == max(values) and values[-1] > sign * best[metric.name]


def _find_no_gain(
    history: History, arguments: "TrainingArguments", test: ConstantComparison
) -> str | None:
    """Compare LoRA with a constant prediction: by the metric, then by the lowest loss."""
    name, sign = test.metric.name, -1 if test.metric.lower_is_better else 1
    constant, constant_loss = None, None
    if test.constant is not None:
        constant, constant_loss = test.constant.get(name), test.constant.get("loss")
    elif not test.metric.lower_is_better:
        constant = 0.0  # such as tags that are all outside, or texts without any right word
    best = min(history.evaluations, key=lambda row: row["validation_loss"])
    loss = best["validation_loss"]
    found = None
    if constant is not None and sign * test.adapted[name] <= sign * constant:
        found = (
            f"LoRA's test {test.metric.title}, {test.adapted[name]:.3f}, is no better than a "
            f"constant prediction's, {constant:.3f}"
        )
    elif constant_loss is not None and loss > (1 - MIN_GAIN) * constant_loss:
        place = "above" if loss >= constant_loss else f"less than {MIN_GAIN:.0%} below"
        found = (
            f"the lowest validation loss, {loss:.3f} at epoch {best['epoch']:.3g}, is {place} the "
            f"loss of a constant prediction, {constant_loss:.3f}"
        )
    if found is None:
        return None
    train_loss = history.evaluations[-1].get("train_loss")
    if train_loss is not None and constant_loss is not None and train_loss < constant_loss / 2:
        return (
            f"Nothing learned that holds for other rows: {found}, but the training loss fell to "
            f"{train_loss:.3f}. What helps: more training rows, labels that the texts explain."
        )
    return f"Underfitting: {found}. {_advise_more_training(arguments)}"


def _find_falling_loss(
    history: History, arguments: "TrainingArguments", noise: float
) -> str | None:
    """Compare the last validation loss with the lowest before the end of training.

    Args:
        noise: the standard error of the validation loss, as a share of it.
    """
    evaluations = history.evaluations
    last = evaluations[-1]
    before = [row for row in evaluations[:-1] if row["step"] <= (1 - END) * last["step"]]
    before = before or evaluations[:1]
    lowest = min(before, key=lambda row: row["validation_loss"])
    is_lowest = last["validation_loss"] <= min(row["validation_loss"] for row in evaluations)
    fall = max(MIN_FALL, NEAR_CHANGE * noise)
    if not is_lowest or last["validation_loss"] >= (1 - fall) * lowest["validation_loss"]:
        return None
    return (
        f"Underfitting: the validation loss still falls at the end of training, from "
        f"{lowest['validation_loss']:.3f} at epoch {lowest['epoch']:.3g} to "
        f"{last['validation_loss']:.3f} at epoch {last['epoch']:.3g}. "
        f"{_advise_more_training(arguments)}"
    )


def _find_overconfidence(test: ConstantComparison) -> str | None:
    """Compare the test losses of LoRA and of a constant prediction, which LoRA's metric beats."""
    if test.constant is None or test.metric.lower_is_better:
        return None
    loss, constant = test.adapted.get("loss"), test.constant.get("loss")
    if loss is None or constant is None or loss <= constant:
        return None
    return (
        f"Overconfident: LoRA's test loss, {loss:.3f}, is above a constant prediction's, "
        f"{constant:.3f}, so its probabilities are too near 0 and 1, although its "
        f"{test.metric.title} is better. What helps: more rows, or fewer epochs."
    )


def _advise_more_training(arguments: "TrainingArguments") -> str:
    longer = f"training.num_train_epochs={2 * arguments.num_train_epochs:g}"
    if arguments.max_steps > 0:
        longer = f"training.max_steps={2 * arguments.max_steps}"
    rate = f"training.learning_rate={2 * arguments.learning_rate:.3g}"
    return f"What helps: longer training ({longer}), or a higher learning rate ({rate})."
