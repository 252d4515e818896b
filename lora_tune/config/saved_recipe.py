"""Recipes of finished runs, read again for other rows or another machine.

Recipes that earlier versions saved go on loading: renamed keys are moved without a message.
"""

from typing import Any

import yaml

from lora_tune.config.data import DataConfig
from lora_tune.config.recipe import Recipe
from lora_tune.config.recipe_file import ENVIRONMENT_VARIABLE, parse_recipe
from lora_tune.config.redaction import is_secret
from lora_tune.config.renamed_keys import move_renamed_keys
from lora_tune.errors import RecipeError

# The keys of `data:` that determine how a file is read and how a row becomes an input.
INPUT_KEYS = (
    *("text", "text_pair", "prompt", "completion", "messages", "chat_template", "system"),
    *("id", "format", "label", "labels"),
)


def load_saved_recipe(text: str, *, name: str, where: str, base: str, source: str | None) -> Recipe:
    """Parse the task, data, seeds and generation of a finished run's recipe.

    All other keys have their defaults.

    Args:
        text: YAML of the recipe, as the run recorded it.
        name: the recipe's name.
        where: the file that the text comes from, for messages.
        base: the base model to use.
        source: the source of rows to use; None for the recipe's own.

    Raises:
        RecipeError: a value of it is not available on this machine, or is a secret of it.
    """
    saved = _parse_saved(text)
    sections = {
        "task": saved["task"],
        "model": {"name": base},
        "data": saved["data"] | ({"source": source} if source else {}),
        "training": {"seed": saved["training"]["seed"]},
        "seeds": saved.get("seeds"),
        "generation": saved.get("generation", {}),
    }
    for variable in ENVIRONMENT_VARIABLE.findall(str(sections)):
        if is_secret(variable):  # another person's recipe could send it along with a request
            raise RecipeError(
                f"{where} reads the secret {variable}; give labeled rows with --data FILE"
            )
    return parse_recipe(yaml.safe_dump(sections), name=name, where=where)


def load_saved_input(text: str, *, task: str, where: str) -> DataConfig:
    """Parse how a finished run's recipe makes an input of a row, and nothing else.

    Args:
        text: YAML of the recipe, as the run recorded it; keys of later versions may be missing.
        task: the task's name.
        where: the file that the text comes from, for messages.

    Raises:
        RecipeError: a value of it is not available on this machine.
    """
    data = _parse_saved(text)["data"]
    kept = {key: data[key] for key in INPUT_KEYS if data.get(key) is not None}
    sections = {"task": task, "model": {"name": "-"}, "data": {"source": "-"} | kept}
    return parse_recipe(yaml.safe_dump(sections), name="-", where=where).data


def _parse_saved(text: str) -> dict[str, Any]:
    saved: dict[str, Any] = yaml.safe_load(text)
    move_renamed_keys(saved)
    return saved
