"""The card of an adapter or a merged model: what it is, its scores, how to load it."""

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from lora_tune.artifacts.manifest import Manifest
from lora_tune.config.data import DataConfig
from lora_tune.config.lora import LoraConfig
from lora_tune.config.model import ModelConfig
from lora_tune.evaluation.comparison import Comparison, Cost
from lora_tune.evaluation.results import TITLES
from lora_tune.models.quantization import quantization_options
from lora_tune.run_context import RunContext
from lora_tune.tasks import Task, make_task


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
REPOSITORY = "PATH-OR-REPO"  # `push` puts the repository's name in its place
LOADING = """```python
from peft import {model_class}
from transformers import AutoTokenizer{configuration}
{labels}{quantization}tokenizer = AutoTokenizer.from_pretrained("{repository}")
model = {model_class}.from_pretrained("{repository}", {loaded}{named})
model.config.pad_token_id = tokenizer.pad_token_id
{pooled}```"""
# The logits of a mean-pooled text, in a card.
MEAN_LOGITS = """inputs = tokenizer(["..."], padding=True, truncation=True, return_tensors="pt")
mask = inputs["attention_mask"].unsqueeze(-1)
logits = (model(**inputs).logits * mask).sum(1) / mask.sum(1)  # the mean over a text's tokens
"""
MARKDOWN = re.compile(r"[\\`*_{}\[\]()!|~:]")  # where a line is escaped as HTML already


def write_model_card(
    context: RunContext,
    comparison: Comparison,
    *,
    cost: Cost,
    epochs: float,
    unquantized: Sequence[str],
) -> str:
    """Write an adapter's card in Markdown, with the metadata that the Hub reads.

    Args:
        epochs: that the training had at most.
        unquantized: modules of the base model that are never quantized.
    """
    recipe, task, checkpoint = context.recipe, context.task, context.checkpoint
    lora, training, labels = recipe.lora, recipe.training, context.data.labels
    text = TASK_TEXTS[task.output_kind]
    untrained = (
        " The base model's head is untrained: its predictions are at chance level."
        if comparison.untrained_head
        else ""
    )
    scores = [
        [
            TITLES[score.name],
            *(
                f"{score.metrics[name]:.4f}" if name in score.metrics else "-"
                for name in comparison.adapted
            ),
        ]
        for score in comparison.results
    ]
    settings: list[list[object]] = [
        ["rank", lora.rank],
        ["alpha", f"{lora.alpha:g}"],
        ["dropout", f"{lora.dropout:g}"],
        ["target modules", _code(json.dumps(lora.target_modules))],
        *_other_lora_settings(lora),
        *_prompt_settings(recipe.data),
        ["trainable parameters, head included", f"{cost.trainable_parameters:,}"],
        ["total parameters", f"{cost.total_parameters:,}"],
        ["size of the weights file, bytes", f"{cost.adapter_bytes:,}"],
        ["base model while training", recipe.model.precision],
        ["learning rate", f"{training['learning_rate']:g}"],
        ["epochs, at most", f"{epochs:g}"],
        ["seed", recipe.all_seeds[0]],
    ]
    where = "a local folder, which others need too" if checkpoint.is_local else "on the Hub"
    is_one_text = len(task.columns(recipe.data, labeled=False)) == 1
    options = '--text "..."' if is_one_text else "--input rows.jsonl"
    purpose = text.purpose.format(labels=", ".join(map(_code, labels)))
    return "\n".join(
        [
            "---",
            _metadata(context, comparison),
            "---",
            f"# {_plain(recipe.name)}",
            "",
            f"A LoRA adapter for {_code(checkpoint.name)}, trained on "
            f"{_code(recipe.source_as_written)} {purpose}. Made with lora_tune.",
            "",
            "## Results",
            "",
            _table(scores, ["", *comparison.adapted]),
            "",
            f"On the same {comparison.test_rows} test rows.{untrained} {comparison.headline}",
            "",
            *(f"- {other.verdict}" for other in comparison.comparisons),
            "",
            *map(_plain, comparison.warnings),
            "",
            "## Loading",
            "",
            show_loading(task, labels, model=recipe.model, unquantized=unquantized),
            "",
            f"The base model, {_code(checkpoint.name)}, is {where}. "
            f"`lora-tune predict {REPOSITORY} {options}` loads it with its label names, after it "
            "has checked every file against `manifest.json`. "
            f"Give the tokenizer `truncation=True`: the adapter was trained on up to "
            f"{recipe.data.max_length} tokens.",
            "",
            "## Adapter",
            "",
            _table(settings, ["setting", "value"]),
            "",
            "## Intended use and limits",
            "",
            f"For texts like those it was trained on, up to {recipe.data.max_length} tokens; "
            f"longer ones are truncated on the {recipe.data.truncation_side}. {text.limits} "
            "The results above hold for the test rows; on other texts they may be worse. The "
            "base model's biases remain, and its license applies.",
            "",
        ]
    )


def write_merged_card(manifest: Manifest, parity: Any) -> str:
    """Write the card of a merged model.

    Args:
        parity: of the merged model and the adapter, a dataclass; its fields become a table.
    """
    task = make_task(manifest.task, pooling=manifest.base.pooling)
    purpose = TASK_TEXTS[task.output_kind].purpose
    report = [[name.replace("_", " "), value] for name, value in vars(parity).items()]
    rows = [[name, _code(str(value))] for name, value in report if value is not None]
    return "\n".join(
        [
            f"# {_plain(manifest.recipe_name)}, merged",
            "",
            f"{_code(manifest.base.name)} with LoRA merged into its weights, "
            f"{purpose.format(labels=', '.join(map(_code, manifest.labels)))}. A plain "
            "transformers model:",
            "",
            "```python",
            *_merged_usage(task),
            "```",
            "",
            _table(rows, ["compared with the adapter", ""]),
            "",
        ]
    )


def _merged_usage(task: Task) -> list[str]:
    """Give the lines of Python with which transformers alone uses a merged model."""
    text = TASK_TEXTS[task.output_kind]
    encoder_decoder = task.generation is not None and task.generation.is_encoder_decoder
    is_pooled = task.pooling == "mean"
    if text.pipeline_options is not None and not encoder_decoder and not is_pooled:
        return [
            "from transformers import pipeline",
            f'predict = pipeline("{text.pipeline}", "PATH"{text.pipeline_options})',
        ]
    lines = [
        f"from transformers import {task.auto_class}, AutoTokenizer",
        'tokenizer = AutoTokenizer.from_pretrained("PATH")',
        f'model = {task.auto_class}.from_pretrained("PATH")',
    ]
    if is_pooled:
        lines += MEAN_LOGITS.splitlines()
    if encoder_decoder:
        inputs = 'tokenizer("...", return_tensors="pt")'
        lines.append(f"ids = model.generate(**{inputs}, max_new_tokens=64)")
    return lines


def _metadata(context: RunContext, comparison: Comparison) -> str:
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
            metric_type=name,
            metric_value=round(value, 4),
        )
        for name, value in comparison.adapted.items()
    ]
    data = ModelCardData(
        base_model=None if checkpoint.is_local else checkpoint.name,  # the Hub refuses a path
        library_name="peft",
        pipeline_tag=tag,
        tags=["lora", "lora_tune"],
        model_name=recipe.name,
        eval_results=results,
    )
    return str(data.to_yaml())


def show_loading(
    task: Task, labels: Sequence[str], *, model: ModelConfig, unquantized: Sequence[str]
) -> str:
    """Show how PEFT and transformers alone load the adapter, on its base model as while training.

    Args:
        unquantized: modules of the base model that are never quantized.
    """
    options = quantization_options(model, skipped=unquantized) if model.quantization else {}
    written = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return LOADING.format(
        configuration=", BitsAndBytesConfig" if options else "",
        quantization=f"quantization = BitsAndBytesConfig({written})\n" if options else "",
        loaded=f'dtype="{model.dtype}"' + (", quantization_config=quantization" if options else ""),
        model_class=task.auto_class.replace("AutoModel", "AutoPeftModel"),
        labels=f"labels = {_literal(labels)}\n" if labels else "",
        named=", id2label=dict(enumerate(labels))" if labels else "",
        repository=REPOSITORY,
        pooled=MEAN_LOGITS if task.pooling == "mean" else "",
    )


def _other_lora_settings(lora: LoraConfig) -> list[list[object]]:
    """The other keys of `lora:` whose values are not the defaults."""
    written, default = {"rank", "alpha", "dropout", "target_modules"}, LoraConfig()
    return [
        [name.replace("_", " "), _code(json.dumps(value))]
        for name, value in vars(lora).items()
        if name not in written and value != getattr(default, name)
    ]


def _prompt_settings(data: DataConfig) -> list[list[object]]:
    """The templates that a text is put into before the model sees it."""
    written = {"prompt": data.prompt, "system": data.system}
    rows: list[list[object]] = [
        [key, _code(json.dumps(text, ensure_ascii=False))] for key, text in written.items() if text
    ]
    return [*rows, ["chats", "by the tokenizer's chat template"]] if data.is_chat else rows


def _table(rows: Sequence[Sequence[object]], headers: Sequence[str]) -> str:
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _code(text: str) -> str:
    return f"<code>{_plain(text)}</code>"


def _plain(text: str) -> str:
    """Text from data or recipes, escaped for Markdown and HTML."""
    line = html.escape(" ".join(text.split()))
    return MARKDOWN.sub(lambda match: f"&#{ord(match[0])};", line)


def _literal(labels: Sequence[str]) -> str:
    """Label names as a Python list that cannot end the code around it."""
    return ascii(list(labels)).replace("`", "\\x60").replace("<", "\\x3c")
