"""Recipes loaded with the checks of their tasks: which keys a task has, and which it needs."""

from collections.abc import Sequence

from lora_tune.config import recipe_file
from lora_tune.config.generation import GenerationConfig
from lora_tune.config.recipe import Recipe, Sections
from lora_tune.config.validation import Problems
from lora_tune.tasks import TASKS


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, apply overrides, check every key and value.

    Args:
        name: a recipe's name in `recipes/`, or a path.
        overrides: `key=value` with a dotted key and a YAML value, such as `lora.rank=16`.

    Raises:
        RecipeError: with one line for each error.
    """
    return recipe_file.load_recipe(name, overrides, check=check_task)


def check_task(recipe: Sections) -> Problems:
    """Yield the keys that a recipe's task does not have, and those that it needs.

    An unknown task is reported where the task is made, with a suggestion.
    """
    if recipe.task not in TASKS:
        return
    task = TASKS[recipe.task]
    for key in dict.fromkeys(key for other in TASKS.values() for key in other.data_keys):
        if getattr(recipe.data, key) is not None and key not in task.data_keys:
            names = [other.name for other in TASKS.values() if key in other.data_keys]
            yield f"data.{key}", f"is for task: {' or '.join(names)}, found task: {task.name}"
    if task.generation is None and recipe.generation != GenerationConfig():
        names = [other.name for other in TASKS.values() if other.generation is not None]
        yield "generation", f"is for task: {' or '.join(names)}, found {task.name}"
    yield from task.check_recipe(recipe)
