"""Further metrics of every system, by modules of the evaluate library that the caller passes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lora_tune.data.rows import Split
from lora_tune.errors import LoraTuneError, first_line
from lora_tune.evaluation.model_evaluation import Evaluation
from lora_tune.evaluation.results import Result
from lora_tune.run_context import RunContext
from lora_tune.tasks import Task


def add_metrics(
    context: RunContext, results: Sequence[Result], modules: Sequence[Any]
) -> list[Result]:
    """Compute further metrics of each system on the test rows.

    Args:
        context: of the run.
        results: of the systems.
        modules: of evaluate, such as `evaluate.load("path/to/metric.py")`. Their `compute` gets
            predictions and references: class IDs; 0 or 1 for each label; numbers; a list of tags
            for each row, as seqeval takes them; or texts.

    Raises:
        LoraTuneError: a module fails on these predictions, or its metric has a name of ours.
    """
    test, task = context.data.test, context.task
    return [
        replace(result, evaluation=_add_to(result.evaluation, test, task, modules=modules))
        for result in results
    ]


def _add_to(
    evaluation: Evaluation, split: Split, task: Task, *, modules: Sequence[Any]
) -> Evaluation:
    if not modules:
        return evaluation
    metrics: dict[str, float] = {}
    predictions, references = _inputs(evaluation, split, task)
    for module in modules:
        try:
            found = module.compute(predictions=predictions, references=references)
        except (ValueError, TypeError, KeyError) as error:
            raise LoraTuneError(f"metric {module.name}: {first_line(error)}") from None
        taken = sorted(found.keys() & (evaluation.metrics.keys() | metrics.keys()))
        if taken:
            raise LoraTuneError(
                f"metric {module.name}: its result {taken[0]!r} has the name of another metric; "
                "rename it"
            )
        metrics |= {name: float(value) for name, value in found.items() if _is_number(value)}
    return replace(evaluation, metrics=evaluation.metrics | metrics)


def _inputs(evaluation: Evaluation, split: Split, task: Task) -> tuple[list[Any], list[Any]]:
    rows, decide = split.rows, evaluation.task.decide
    if task.output_kind == "class":
        return evaluation.predictions.tolist(), rows.labels.tolist()
    if task.output_kind == "labels":
        decisions = [decide(outputs).astype(int).tolist() for outputs in evaluation.outputs]
        return decisions, rows.labels.astype(int).tolist()
    if task.output_kind == "value":
        return [float(outputs[0, 0]) for outputs in evaluation.outputs], rows.labels.tolist()
    if task.output_kind == "tags":
        names = rows.label_names
        tags = [[names[i] for i in decide(outputs)] for outputs in evaluation.outputs]
        # Truncated words have no prediction.
        true = [
            [names[i] for i in own[: len(row)]] for own, row in zip(rows.labels, tags, strict=True)
        ]
        return tags, true
    if evaluation.texts is not None:
        return evaluation.texts, list(rows.label_texts)
    predictions = [
        evaluation.task.format(outputs, given, rows.label_names).label
        for outputs, given in zip(evaluation.outputs, rows.inputs, strict=True)
    ]
    return predictions, list(rows.label_texts)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
