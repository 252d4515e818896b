"""The `training:` section: its fields are those of the imported class, with the same types."""

import dataclasses
import enum
from typing import Any, get_args, get_type_hints

import pytest
from transformers import TrainingArguments

from lora_tune.config.training import (
    OWN_FIELDS,
    REFUSED_FIELDS,
    TRAINING_DEFAULTS,
    TrainingDefaults,
    training_fields,
)


def test_source_and_class_agree():
    real = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}
    assert set(training_fields()) - set(OWN_FIELDS) == real
    assert set(REFUSED_FIELDS) <= real


def test_types_are_those_of_the_class_with_enums_as_text():
    types = get_type_hints(TrainingArguments)
    for name, hint in training_fields().items():
        if name not in OWN_FIELDS:
            chosen = {type(None)} if TRAINING_DEFAULTS.get(name, 0) is None else set()
            assert in_recipe(hint) | chosen == in_recipe(types[name]) | chosen, name


def in_recipe(hint: Any) -> set[Any]:
    """The types that a value may have in a recipe."""
    return {as_text(option) for option in get_args(hint) or (hint,)}


def as_text(option: Any) -> Any:
    if isinstance(option, type) and (
        issubclass(option, enum.Enum) or option.__name__.endswith("Config")
    ):
        return str
    inner = get_args(option)
    return list[as_text(inner[0])] if getattr(option, "__origin__", None) is list else option


def test_our_defaults_have_the_types_of_the_fields():
    for name, hint in get_type_hints(TrainingDefaults).items():
        assert in_recipe(hint) == in_recipe(training_fields()[name]), name


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("training.learning_rate=-1", "training.learning_rate must be above 0, got -1"),
        ("training.num_train_epochs=0", "training.num_train_epochs must be above 0, got 0"),
        ("training.token_budget=0", "training.token_budget must be >= 1, got 0"),
        (
            "training.early_stopping_patience=0",
            "training.early_stopping_patience must be >= 1, got",
        ),
        (
            "training.label_smoothing_factor=2",
            "training.label_smoothing_factor must be 0 to 1, got",
        ),
        ("training.seed=-1", "training.seed must be 0 to 4294967295, got -1"),
        (
            "training.precision=bf16",
            "training.precision: found 'bf16' (text), expected auto, float32, bfloat16 or float16; "
            "did you mean bfloat16?",
        ),
        (
            "training.bf16=true training.precision=bfloat16",
            "training.precision bfloat16 says what training.bf16 says, found bf16=true too; ",
        ),
        (
            "training.fp16=false training.precision=float32",
            "training.precision float32 says what training.fp16 says, found fp16=false too; ",
        ),
    ],
)
def test_a_wrong_value_gets_one_line(write, fault_lines, override, line):
    (only,) = fault_lines(write(), *override.split(" "))
    assert only.startswith(f"command line: {line}")
