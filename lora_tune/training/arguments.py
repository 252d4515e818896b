"""Trainer's arguments, made from a recipe's `training:` section."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from transformers import TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from lora_tune.config.recipe import Recipe
from lora_tune.config.training import (
    AUTOCAST_FIELDS,
    OWN_FIELDS,
    RENAMED_FIELDS,
    find_precision,
    training_fields,
)
from lora_tune.errors import RecipeError, did_you_mean
from lora_tune.metrics.metric import LOWER_IS_BETTER
from lora_tune.system.environment import find_device
from lora_tune.tasks import Task
from lora_tune.training.budget import NO_EVALUATION, resolve_budget
from lora_tune.training.precision import find_slow_precision


def make_arguments(settings: dict[str, Any], *, task: Task, checkpoints: Path) -> TrainingArguments:
    """Make Trainer's arguments from a recipe's `training:` section.

    Args:
        settings: `precision` is that of `resolve_precision`; as `auto`, it is float32.
        task: its primary metric chooses the best checkpoint where the recipe names none.
        checkpoints: Trainer's own folder.

    Raises:
        RecipeError: TrainingArguments refuses a value or a combination.
    """
    fields = {key: value for key, value in settings.items() if key not in OWN_FIELDS}
    for old, new in RENAMED_FIELDS.items():
        if old in fields and new in training_fields():
            fields[new] = fields.pop(old)
    precision = find_precision(settings)
    if not any(key in fields for key in AUTOCAST_FIELDS):
        fields |= {key: precision == name for key, name in AUTOCAST_FIELDS.items()}
    if find_device() == "cpu":
        fields["use_cpu"] = True  # else bf16 is refused where there is no accelerator
        if fields.get("fp16"):  # Trainer would leave it out in silence
            key = "fp16" if settings.get("fp16") else "precision"
            raise RecipeError(
                f"training.{key}: float16 needs a GPU, found the CPU; use training.precision=auto"
            )
    fields.setdefault("label_names", ["labels"])  # whatever the model itself calls them
    chosen = fields["metric_for_best_model"] or task.primary_metric.name
    fields["metric_for_best_model"] = chosen
    names = ("loss", *task.metric_names)
    name = chosen.removeprefix("eval_")
    if fields.get("greater_is_better") is None and name in LOWER_IS_BETTER and name != "loss":
        fields["greater_is_better"] = False
    if name not in names:
        near = did_you_mean(chosen, names) or f"; there are {', '.join(names)}"
        raise RecipeError(f"training.metric_for_best_model: {chosen!r} is not computed{near}")
    for field in dataclasses.fields(TrainingArguments):
        value, choices = fields.get(field.name), field.metadata.get("choices")
        if choices and isinstance(value, str) and value not in choices:
            near = did_you_mean(value, choices) or f"; there are {', '.join(choices)}"
            raise RecipeError(f"training.{field.name}: {value!r} is not one of its values{near}")
    try:
        arguments = TrainingArguments(output_dir=str(checkpoints), **fields)
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise RecipeError(_explain(error, fields)) from None
    if settings["early_stopping_patience"] is not None and arguments.eval_strategy == "no":
        raise RecipeError("training.early_stopping_patience: needs an eval_strategy, such as epoch")
    arguments.disable_tqdm = arguments.disable_tqdm or not sys.stderr.isatty()
    arguments.dataloader_pin_memory = arguments.dataloader_pin_memory and find_device() == "cuda"
    return arguments


def check_arguments(recipe: Recipe, *, task: Task, checkpoints: Path) -> list[str]:
    """Check a recipe's `training:` section before anything heavy is loaded.

    Returns:
        Warnings about settings that are slow on this device.

    Raises:
        RecipeError: see `make_arguments`; or a tracker's package is not installed.
    """
    settings = recipe.training | {"seed": recipe.all_seeds[0]}
    settings |= resolve_budget(settings, rows=1, can_select=True).settings()
    arguments = make_arguments(settings, task=task, checkpoints=checkpoints)
    if settings["refit"]:
        make_arguments(settings | NO_EVALUATION, task=task, checkpoints=checkpoints)
    try:
        for tracker in get_reporting_integration_callbacks(arguments.report_to):
            tracker()  # each raises here where its package is not installed
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise RecipeError(_explain(error, settings)) from None
    warning = find_slow_precision(recipe.training, arguments.device.type)
    return [warning] if warning else []


def _explain(error: Exception, fields: dict[str, Any]) -> str:
    """Name the key that TrainingArguments refuses, where its message tells."""
    message = str(error).strip().splitlines()[0]
    # An enum's message begins with the value; a tracker's holds its name.
    keys = [k for k, v in fields.items() if v and message.startswith((f"{v} ", f"'{v}' "))]
    keys = keys or (["report_to"] if "report_to" in message or "Callback" in message else [])
    where = f"training.{keys[0]}" if len(keys) == 1 else "training"
    return f"{where}: {message}"
