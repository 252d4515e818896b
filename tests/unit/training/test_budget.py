import pytest

from lora_tune.config.training import TRAINING_DEFAULTS
from lora_tune.training.budget import (
    FEWEST_STEPS,
    MAX_EPOCHS,
    MIN_EPOCHS,
    MOST_STEPS,
    PATIENCE,
    resolve_budget,
)


def resolve(rows=1000, can_select=True, labels=2, **settings):
    own = TRAINING_DEFAULTS | settings
    return resolve_budget(own, rows=rows, can_select=can_select, labels=labels)


def test_few_rows_have_as_many_steps_as_many():
    epochs = [resolve(rows).epochs for rows in (32, 300, 1000, 100_000)]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] == MAX_EPOCHS
    assert epochs[-1] == MIN_EPOCHS
    assert FEWEST_STEPS <= count_steps(epochs[1]) < FEWEST_STEPS + 20


def count_steps(epochs, rows=300):
    return epochs * -(-rows // TRAINING_DEFAULTS["per_device_train_batch_size"])


def test_more_labels_have_more_steps():
    steps = [count_steps(resolve(300, labels=labels).epochs) for labels in (2, 10, 13, 77)]
    assert steps == sorted(set(steps))
    assert MOST_STEPS <= steps[-1] < MOST_STEPS + 20


def test_accumulated_batches_are_one_step():
    assert resolve(300, gradient_accumulation_steps=4).epochs > resolve(300).epochs


def test_what_the_recipe_says_rules():
    found = resolve(10, num_train_epochs=2, load_best_model_at_end=True, early_stopping_patience=7)
    assert (found.epochs, found.keeps_best, found.patience) == (2, True, 7)


def test_few_validation_rows_choose_no_epoch():
    found = resolve(300, can_select=False)
    assert (found.keeps_best, found.patience) == (False, None)
    assert resolve(300).keeps_best


@pytest.mark.parametrize(
    ("settings", "patience"),
    [({}, PATIENCE), ({"num_train_epochs": 3}, None), ({"max_steps": 10}, None)],
)
def test_only_an_automatic_training_stops_early(settings, patience):
    assert resolve(**settings).patience == patience


@pytest.mark.parametrize("settings", [{"eval_strategy": "no"}, {"save_strategy": "no"}])
def test_without_evaluations_or_checkpoints_the_last_weights_are_kept(settings):
    found = resolve(**settings)
    assert (found.keeps_best, found.patience) == (False, None)
