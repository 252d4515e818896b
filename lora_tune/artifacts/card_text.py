"""What all model cards have: purposes of tasks, tables, escaped text, and the Hub's metadata."""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from lora_tune.evaluation.comparison import Comparison
from lora_tune.evaluation.results import TITLES
from lora_tune.run_context import RunContext

MARKDOWN = re.compile(r"[\\`*_{}\[\]()!|~:]")  # where a line is escaped as HTML already
REPOSITORY = "PATH-OR-REPO"  # `push` puts the repository's name in its place


@dataclass(frozen=True)
class TaskText:
    """What a card says about a kind of task."""

    purpose: str  # of an adapter, as an infinitive; may hold {labels}
    limits: str  # a sentence on what it always predicts
    pipeline: str  # among the pipelines of transformers, and the Hub's tasks
    pipeline_options: str | None  # as Python; None where transformers has no such pipeline


TASK_TEXTS = {  # by output kind
    "class": TaskText(
        "to classify texts as {labels}",
        "Every text gets one of these labels, even where none fits.",
        "text-classification",
        ", truncation=True",
    ),
    "labels": TaskText(
        "to give a text any of the labels {labels}",
        "A text may get none of them.",
        "text-classification",
        ", truncation=True, top_k=None",
    ),
    "value": TaskText(
        "to predict a number ({labels}) for a text",
        "Every text gets a number, even where none fits.",
        "text-classification",
        ", truncation=True",
    ),
    "tags": TaskText(
        "to find entities ({labels})",
        "Entities of other types are not found.",
        "token-classification",
        ', aggregation_strategy="first"',
    ),
    "text": TaskText("to generate text", "What it generates may be untrue.", "text-generation", ""),
    "span": TaskText(
        "to answer questions with a span of a text",
        "It may find a span even where the text does not answer the question.",
        "question-answering",
        None,
    ),
}


def results_table(comparison: Comparison) -> str:
    """Format the metrics of every system."""
    metrics = list(comparison.adapted)
    rows = [
        [
            TITLES[score.name],
            *(f"{score.metrics[m]:.4f}" if m in score.metrics else "-" for m in metrics),
        ]
        for score in comparison.results
    ]
    return table(rows, ["", *metrics])


def write_metadata(
    context: RunContext,
    metrics: Mapping[str, float],
    *,
    name: str,
    tags: Sequence[str],
    library: str | None,
    needs_base: bool,
) -> str:
    """Write a card's metadata that the Hub reads, as YAML.

    Args:
        context: of the run.
        metrics: of the model on the test rows.
        name: of the model.
        tags: of the model.
        library: that loads the model, among those that the Hub knows; None for another.
        needs_base: whether the model needs the run's base model.
    """
    from huggingface_hub import EvalResult, ModelCardData

    recipe, checkpoint = context.recipe, context.checkpoint
    source, tag = recipe.source_as_written, TASK_TEXTS[context.task.output_kind].pipeline
    is_hub = context.data.commit is not None  # whether the rows came from the Hub
    results = [
        EvalResult(
            task_type=tag,
            dataset_type=source if is_hub else "local",
            dataset_name=source,
            dataset_split=(recipe.data.test.split or "test") if is_hub else None,
            metric_type=metric,
            metric_value=round(value, 4),
        )
        for metric, value in metrics.items()
    ]
    data = ModelCardData(
        # The Hub refuses a path.
        base_model=checkpoint.name if needs_base and not checkpoint.is_local else None,
        library_name=library,
        pipeline_tag=tag,
        tags=list(tags),
        model_name=name,
        eval_results=results,
    )
    return str(data.to_yaml())


def table(rows: Sequence[Sequence[object]], headers: Sequence[str]) -> str:
    """Format a table in Markdown."""
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def code(text: str) -> str:
    """Format text from data or recipes as code."""
    return f"<code>{plain(text)}</code>"


def plain(text: str) -> str:
    """Escape text from data or recipes for Markdown and HTML, on one line."""
    line = html.escape(" ".join(text.split()))
    return MARKDOWN.sub(lambda match: f"&#{ord(match[0])};", line)
