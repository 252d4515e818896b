"""Verdicts of overfitting and underfitting, each by histories where it is right and where not."""

from types import SimpleNamespace

import pytest

from lora_tune.metrics.metric import (
    ACCURACY,
    ENTITY_F1,
    MEAN_ABSOLUTE_ERROR,
    MICRO_F1,
    PERPLEXITY,
)
from lora_tune.training.history import History
from lora_tune.training.overfitting import ConstantComparison, check_overfitting


def check(
    validation,
    train=None,
    scores=None,
    *,
    rows=1000,
    metric=ACCURACY,
    adapted=0.9,
    constant=0.5,
    constant_loss=0.69,
    best_step=None,
    max_steps=-1,
    loss=None,
    is_refitted=False,
):
    """Check the losses and the metric of each epoch, of ten steps each."""
    train = train or validation
    evaluations = [
        {"epoch": i + 1.0, "step": 10 * (i + 1), "train_loss": t, "validation_loss": v}
        | ({metric.name: scores[i]} if scores else {})
        for i, (t, v) in enumerate(zip(train, validation, strict=True))
    ]
    history = History(
        evaluations,
        steps=[],
        best_step=best_step,
        last_step=0,
        train_seconds=1.0,
        is_refitted=is_refitted,
    )
    arguments = SimpleNamespace(
        metric_for_best_model=metric.name,
        num_train_epochs=3,
        max_steps=max_steps,
        learning_rate=2e-4,
    )
    constants = None if constant is None else {metric.name: constant, "loss": constant_loss}
    against = ConstantComparison(metric, {metric.name: adapted, "loss": loss}, constants)
    return check_overfitting(
        history, arguments, metric=metric, validation_rows=rows, against_constant=against
    )


def verdict(*histories, **more):
    """The first word of the warning."""
    warning = check(*histories, **more).warning
    return warning and warning.split(":")[0]


DIVERGING = ([0.4, 0.3, 0.5], [0.6, 0.3, 0.1])  # validation, training


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"scores": [0.80, 0.86, 0.86]},  # the metric stays
        {"scores": [0.80, 0.88, 0.85]},  # falls
        {"scores": [0.80, 0.86, 0.85]},
        {"rows": 50},
        {"metric": MEAN_ABSOLUTE_ERROR, "scores": [0.5, 0.3, 0.4], "constant": 0.7, "adapted": 0.4},
    ],
)
def test_overfitting(given):
    assert verdict(*DIVERGING, **given) == "Overfitting"


def test_a_metric_that_fell_again_is_overfitting():
    losses = ([0.4, 0.3, 0.4, 0.5], [0.6, 0.3, 0.2, 0.1])
    assert verdict(*losses, scores=[0.80, 0.86, 0.90, 0.88]) == "Overfitting"
    assert verdict(*losses, scores=[0.80, 0.86, 0.90, 0.91]) is None


@pytest.mark.parametrize(
    "given",
    [
        {"scores": [0.80, 0.86, 0.87]},  # the metric still rises
        {"metric": MEAN_ABSOLUTE_ERROR, "scores": [0.5, 0.3, 0.2], "constant": 0.7, "adapted": 0.4},
        {"rows": 27},  # too few rows
        {"rows": 49},
    ],
)
def test_diverging_losses_that_are_not_overfitting(given):
    assert verdict(*DIVERGING, **given) is None


@pytest.mark.parametrize(
    ("validation", "train", "rows"),
    [
        ([0.5, 0.40, 0.405], [0.6, 0.4, 0.3], 100_000),  # less than any noise
        ([0.5, 0.40, 0.42], [0.6, 0.4, 0.3], 1000),  # 5 %, within the noise of 1,000 rows
        ([0.5, 0.40, 0.47], [0.6, 0.4, 0.3], 100),  # 17 %, within the noise of 100 rows
        ([0.5, 0.3, 0.5], [0.6, 0.3, 0.4], 1000),  # both rise
        ([0.5, 0.3, 0.5], [0.9, 0.7, 0.6], 1000),  # the training loss is above
    ],
)
def test_losses_that_do_not_diverge(validation, train, rows):
    assert verdict(validation, train, rows=rows) is None


def test_the_noise_of_the_validation_loss_falls_with_the_rows():
    losses = ([0.5, 0.40, 0.44], [0.6, 0.4, 0.3])
    assert verdict(*losses, rows=300) is None
    assert verdict(*losses, rows=500) == "Overfitting"
    # The losses of texts are means over many tokens.
    assert verdict([3.5, 3.2, 3.5], [3.4, 3.1, 2.8], rows=60, metric=PERPLEXITY, constant=None) == (
        "Overfitting"
    )


def test_what_an_overfitting_warning_says():
    found = check(*DIVERGING, best_step=30)
    assert (found.best_epoch, found.kept_epoch, found.kept_step) == (2, 3, 30)
    assert found.message == (
        "Kept: the weights of step 30 (epoch 3), the best of 3 evaluations by validation accuracy."
        "\nOverfitting: from epoch 2 to 3 the training loss fell from 0.300 to 0.100, but the "
        "validation loss rose from 0.300 to 0.500. What helps: more rows, less training, a "
        "smaller lora.rank, more lora.dropout, or training.metric_for_best_model=loss to keep the "
        "earlier weights."
    )
    assert "or training.load_best_model_at_end=true" in check(*DIVERGING).warning
    assert "dropout." in check(*DIVERGING, best_step=20).warning


@pytest.mark.parametrize(
    ("validation", "rows"),
    [
        ([1.345, 1.145], 30),
        ([1.38, 1.345, 1.145], 30),
        ([0.60, 0.50, 0.48], 1000),
        ([0.60, 0.52, 0.53, 0.50, 0.48], 1000),  # with noise on the way
        ([0.5 * 0.99**i for i in range(50)], 1000),  # 1 % at each of many evaluations
    ],
)
def test_a_loss_that_still_falls_at_the_end_is_underfitting(validation, rows):
    found = check(validation, rows=rows, constant_loss=1.386)
    assert found.warning.startswith(
        "Underfitting: the validation loss still falls at the end of training, from "
    )
    assert f" to {validation[-1]:.3f} at epoch {len(validation)}. What helps" in found.warning


@pytest.mark.parametrize(
    ("validation", "rows"),
    [
        ([0.60, 0.50, 0.495], 1000),
        ([0.60, 0.50, 0.51], 1000),  # rises within the noise
        ([0.60, 0.48, 0.53, 0.50], 1000),  # falls, but was lower before
        ([0.60, 0.50, 0.49, 0.487, 0.4865], 100_000),
        ([0.60, 0.59, 0.58, 0.57, 0.56, 0.55, 0.54, 0.53, 0.40, 0.50], 1000),  # lower just before
        # A learning rate that decays to 0: each evaluation is a little better, and all are level.
        ([0.30 + 0.4 * (1 - i / 10) ** 3 for i in range(1, 11)], 1000),
        ([0.50, 0.45], 5),  # within the noise of a few rows
        ([0.0, 0.0], 1000),
        ([0.4], 1000),
        ([], 1000),
    ],
)
def test_a_loss_that_is_level_at_the_end_is_not_underfitting(validation, rows):
    train = [1.1 * loss for loss in validation]
    assert verdict(validation, train, rows=rows) is None


@pytest.mark.parametrize(
    ("metric", "adapted", "constant"),
    [
        (ACCURACY, 0.5, 0.5),
        (ACCURACY, 0.4, 0.5),
        (MICRO_F1, 0.0, 0.0),
        (ENTITY_F1, 0.0, None),  # a task without a constant prediction
        (MEAN_ABSOLUTE_ERROR, 0.7, 0.7),
        (MEAN_ABSOLUTE_ERROR, 0.9, 0.7),
    ],
)
def test_a_score_no_better_than_a_constant_is_underfitting(metric, adapted, constant):
    level = [0.5, 0.5, 0.5]
    found = check(level, metric=metric, adapted=adapted, constant=constant)
    assert found.warning == (
        f"Underfitting: LoRA's test {metric.title}, {adapted:.3f}, is no better than a constant "
        f"prediction's, {constant or 0:.3f}. What helps: longer training "
        "(training.num_train_epochs=6), or a higher learning rate (training.learning_rate=0.0004)."
    )


@pytest.mark.parametrize(
    ("metric", "adapted", "constant"),
    [
        (ACCURACY, 0.51, 0.5),
        (MICRO_F1, 0.01, 0.0),
        (ENTITY_F1, 0.01, None),
        (MEAN_ABSOLUTE_ERROR, 0.69, 0.7),
        (PERPLEXITY, 20.0, None),
    ],
)
def test_a_score_better_than_a_constant_is_not_underfitting(metric, adapted, constant):
    assert verdict([0.5, 0.5, 0.5], metric=metric, adapted=adapted, constant=constant) is None


def test_a_loss_near_that_of_a_constant_prediction_is_underfitting():
    near = check([0.694, 0.696, 0.69], max_steps=30).warning
    assert near.startswith(
        "Underfitting: the lowest validation loss, 0.690 at epoch 3, is above the loss of a "
        "constant prediction, 0.690. What helps: longer training (training.max_steps=60)"
    )
    assert "0.680 at epoch 1, is less than 3% below" in check([0.68, 0.68, 0.68]).warning
    assert check([0.66, 0.66, 0.66]).warning is None


@pytest.mark.parametrize(
    ("metric", "loss", "expected"),
    [
        (ACCURACY, 0.7, "Overconfident"),
        (ACCURACY, 0.68, None),
        (MEAN_ABSOLUTE_ERROR, 0.7, None),  # whose loss says nothing of probabilities
    ],
)
def test_a_better_score_with_a_loss_above_a_constants_is_overconfident(metric, loss, expected):
    scores = (0.4, 0.7) if metric.lower_is_better else (0.9, 0.5)
    found = verdict([0.5] * 3, metric=metric, adapted=scores[0], constant=scores[1], loss=loss)
    assert found == expected


def test_a_second_training_for_the_kept_steps_is_not_overfitting():
    assert verdict(*DIVERGING) == "Overfitting"
    assert verdict(*DIVERGING, is_refitted=True) is None


def test_training_rows_learned_by_heart_are_not_underfitting():
    found = check([0.75, 0.8, 0.85], [0.6, 0.3, 0.05], rows=27, adapted=0.5)
    assert found.warning.startswith("Nothing learned that holds for other rows: LoRA's test")
    assert "but the training loss fell to 0.050. What helps: more training rows" in found.warning


@pytest.mark.parametrize(
    ("best_step", "kept"),
    [
        (20, "Kept: the weights of step 20 (epoch 2), the best of 3 evaluations by validation acc"),
        (None, "Kept: the weights of the last step, 30 (epoch 3)."),
    ],
)
def test_the_kept_step_is_always_told(best_step, kept):
    found = check([0.5, 0.5, 0.5], best_step=best_step)
    assert found.message.startswith(kept)
    assert found.kept_step == (best_step or 30)


def test_runs_without_evaluations():
    arguments = SimpleNamespace(metric_for_best_model="accuracy")
    for steps, kept in (
        ([], "Kept: the weights of the last step."),
        ([{"epoch": 2.0, "step": 8}], "Kept: the weights of the last step, 8 (epoch 2)."),
    ):
        found = check_overfitting(
            History([], steps, best_step=None, last_step=0, train_seconds=1.0),
            arguments,
            metric=ACCURACY,
            validation_rows=10,
            against_constant=ConstantComparison(ACCURACY, {"accuracy": 0.1}, {"accuracy": 0.5}),
        )
        assert (found.message, found.best_epoch) == (kept, None)
