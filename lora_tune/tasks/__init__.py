"""The tasks a recipe can name: one file each, and one line here."""

from dataclasses import replace

from lora_tune.errors import RecipeError
from lora_tune.suggestions import did_you_mean
from lora_tune.tasks.causal_lm import CausalLanguageModeling
from lora_tune.tasks.multi_label_classification import MultiLabelClassification
from lora_tune.tasks.seq2seq_lm import SequenceToSequence
from lora_tune.tasks.sequence_classification import SequenceClassification
from lora_tune.tasks.sequence_regression import SequenceRegression
from lora_tune.tasks.task import Answer as Answer
from lora_tune.tasks.task import Task as Task
from lora_tune.tasks.token_classification import TokenClassification

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        SequenceClassification(),
        MultiLabelClassification(),
        SequenceRegression(),
        TokenClassification(),
        CausalLanguageModeling(),
        SequenceToSequence(),
    )
}


def find_task(name: str, *, threshold: float | None = None) -> Task:
    """Look up a task.

    Args:
        threshold: of a label's probability, where rows bear several; None for the task's own.

    Raises:
        RecipeError: there is none of that name.
    """
    if name not in TASKS:
        raise RecipeError(
            f"task: {name!r} is no task{did_you_mean(name, TASKS)}; there are {', '.join(TASKS)}"
        )
    task = TASKS[name]
    if threshold is not None and isinstance(task, MultiLabelClassification):
        return replace(task, threshold=threshold)
    return task
