"""The tasks that a recipe can name: one file each, and one line here."""

from dataclasses import replace

from lora_tune.errors import RecipeError, did_you_mean
from lora_tune.metrics.metric import Metric
from lora_tune.metrics.text import TEXT_METRICS
from lora_tune.tasks.causal_lm import CausalLanguageModeling
from lora_tune.tasks.multi_label_classification import MultiLabelClassification
from lora_tune.tasks.question_answering import QuestionAnswering
from lora_tune.tasks.seq2seq_lm import SequenceToSequence
from lora_tune.tasks.sequence_classification import SequenceClassification
from lora_tune.tasks.sequence_regression import SequenceRegression
from lora_tune.tasks.task import Generation as Generation
from lora_tune.tasks.task import Pooling as Pooling
from lora_tune.tasks.task import Prediction as Prediction
from lora_tune.tasks.task import Task as Task
from lora_tune.tasks.task import primary_metric_of as primary_metric_of
from lora_tune.tasks.token_classification import TokenClassification

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        SequenceClassification(),
        MultiLabelClassification(),
        SequenceRegression(),
        TokenClassification(),
        QuestionAnswering(),
        CausalLanguageModeling(),
        SequenceToSequence(),
    )
}


def make_task(name: str, *, threshold: float | None = None, pooling: Pooling = "model") -> Task:
    """Look up a task.

    Args:
        threshold: of a label's probability, where rows have several labels; None for the default.
        pooling: see `pooled_task`.

    Raises:
        RecipeError: there is none of that name.
    """
    if name not in TASKS:
        raise RecipeError(
            f"task: {name!r} is not a task{did_you_mean(name, TASKS)}; there are {', '.join(TASKS)}"
        )
    task = TASKS[name]
    if threshold is not None and isinstance(task, MultiLabelClassification):
        task = replace(task, threshold=threshold, tunes_threshold=False)
    return pooled_task(task, pooling)


def pooled_task(task: Task, pooling: Pooling) -> Task:
    """Choose how a task's model pools tokens; a task without one prediction for a text stays."""
    if pooling == "model" or task.auto_class != "AutoModelForSequenceClassification":
        return task
    return replace(
        task,
        pooling=pooling,
        auto_class="AutoModelForTokenClassification",
        peft_task_type="TOKEN_CLS",
    )


def find_metric(task: str, name: str) -> Metric:
    """Look up the primary metric of a finished run by the names of its task and metric."""
    own = make_task(task).primary_metric
    return own if own.name == name else TEXT_METRICS[name]
