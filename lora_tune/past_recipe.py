"""What the recipe of a finished run says, read again for other rows or for a user's own."""

from collections.abc import Sequence

import yaml

from lora_tune.errors import RecipeError
from lora_tune.recipe import DataConfig, Recipe
from lora_tune.recipe_file import ENVIRONMENT_VARIABLE, parse_recipe
from lora_tune.redaction import is_secret

# What makes an input of a row, below `data`.
INPUT_KEYS = ("text", "text_pair", "prompt", "completion", "messages", "chat_template", "system")


def recall_recipe(
    text: str, *, name: str, where: str, base: str, labels: Sequence[str], source: str | None
) -> Recipe:
    """Parse what a finished run's recipe says of rows, seed and writing, the rest at its defaults.

    Args:
        text: the recipe as run.
        where: it comes from, for the errors.
        base: stands in for its base.
        labels: stand in for its labels.
        source: stands in for its source of rows, unless None.

    Raises:
        RecipeError: a value of it cannot be had here, or is a secret of this machine.
    """
    whole = yaml.safe_load(text)
    sections = {
        "task": whole["task"],
        "model": {"name": base},
        "data": whole["data"]
        | ({"source": source} if source else {})
        # Where there is none, or the column's own, it need not be said.
        | {"labels": list(labels) if len(labels) > 1 else None},
        "training": {"seed": whole["training"]["seed"]},
        "seeds": whole.get("seeds"),
        "generation": whole.get("generation", {}),
    }
    for variable in ENVIRONMENT_VARIABLE.findall(str(sections)):
        if is_secret(variable):  # a stranger's recipe would send it along with a request
            raise RecipeError(
                f"{where} reads the secret {variable}; give labelled rows with --data FILE"
            )
    return parse_recipe(yaml.safe_dump(sections), name=name, where=where)


def recall_input(text: str, *, task: str, where: str) -> DataConfig:
    """Parse what a finished run's recipe says of how a row becomes an input, and nothing else.

    Args:
        text: the recipe as run; keys of later versions may be lacking.
        where: it comes from, for the errors.

    Raises:
        RecipeError: a value of it cannot be had here.
    """
    data = yaml.safe_load(text)["data"]
    kept = {key: data[key] for key in INPUT_KEYS if data.get(key) is not None}
    sections = {"task": task, "model": {"name": "-"}, "data": {"source": "-"} | kept}
    return parse_recipe(yaml.safe_dump(sections), name="-", where=where).data
