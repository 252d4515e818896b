"""The tasks a recipe can name: one file each, and one line here."""

from lora_tune.errors import RecipeError
from lora_tune.suggestions import did_you_mean
from lora_tune.tasks.sequence_classification import SequenceClassification

TASKS = {task.name: task for task in (SequenceClassification(),)}


def find_task(name: str) -> SequenceClassification:
    """Look up a task.

    Raises:
        RecipeError: there is none of that name.
    """
    if name not in TASKS:
        raise RecipeError(
            f"task: {name!r} is no task{did_you_mean(name, TASKS)}; there are {', '.join(TASKS)}"
        )
    return TASKS[name]
