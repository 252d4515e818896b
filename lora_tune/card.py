"""The card of an adapter or a merged model: what it is, what it scored, how to load it."""

import html
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tabulate import tabulate

from lora_tune.base import Base
from lora_tune.comparison import TITLES, Comparison, Cost
from lora_tune.lora import LoraConfig
from lora_tune.manifest import Manifest
from lora_tune.precision import quantization_options
from lora_tune.recipe import DataConfig, ModelConfig, Recipe
from lora_tune.tasks import Task, find_task

if TYPE_CHECKING:
    from lora_tune.merging import Parity

REPOSITORY = "PATH-OR-REPO"  # `push` puts the repository's name in its place
LOADING = """```python
from peft import {model_class}
from transformers import AutoTokenizer{configuration}
{labels}{quantization}tokenizer = AutoTokenizer.from_pretrained("{repository}")
model = {model_class}.from_pretrained("{repository}", {loaded}{named})
model.config.pad_token_id = tokenizer.pad_token_id
```"""
MARKDOWN = re.compile(r"[\\`*_{}\[\]()!|~:]")  # where a line is escaped as HTML already


def write_card(
    recipe: Recipe,
    *,
    base: Base,
    labels: Sequence[str],
    whole: Sequence[str],
    comparison: Comparison,
    cost: Cost,
    hub_data: bool,
) -> str:
    """Write an adapter's card in Markdown, with the metadata that the Hub reads.

    Args:
        whole: the modules that are never quantised.
        hub_data: whether the rows came from the Hub.
    """
    lora, training, task = recipe.lora, recipe.training, find_task(recipe.task)
    fresh = " The base has a fresh head, so it guesses." if comparison.fresh_head else ""
    scores = [
        [
            TITLES[score.rung],
            *(
                f"{score.metrics[name]:.4f}" if name in score.metrics else "-"
                for name in comparison.adapted
            ),
        ]
        for score in comparison.rungs
    ]
    settings: list[list[object]] = [
        ["rank", lora.rank],
        ["alpha", f"{lora.alpha:g}"],
        ["dropout", f"{lora.dropout:g}"],
        ["target modules", _code(json.dumps(lora.target_modules))],
        *_unusual(lora),
        *_prompting(recipe.data),
        ["trainable parameters, head included", f"{cost.trainable_parameters:,}"],
        ["total parameters", f"{cost.total_parameters:,}"],
        ["size of the weights file, bytes", f"{cost.adapter_bytes:,}"],
        ["base while training", recipe.model.precision],
        ["learning rate", f"{training['learning_rate']:g}"],
        ["epochs, at most", f"{training['num_train_epochs']:g}"],
        ["seed", recipe.all_seeds[0]],
    ]
    where = "a local folder, which others must have too" if base.is_local else "on the Hub"
    asking = '--text "..."' if len(task.asked_columns(recipe.data)) == 1 else "--input rows.jsonl"
    purpose = task.purpose.format(labels=", ".join(map(_code, labels)))
    return "\n".join(
        [
            "---",
            _metadata(recipe, base, comparison, is_hub=hub_data),
            "---",
            f"# {_plain(recipe.name)}",
            "",
            f"A LoRA adapter for {_code(base.name)}, trained on {_code(recipe.source_as_written)} "
            f"{purpose}. Made with lora_tune.",
            "",
            "## Base against adapted",
            "",
            _table(scores, ["", *comparison.adapted]),
            "",
            f"On the same {comparison.test_rows} test rows.{fresh} {comparison.headline}",
            "",
            *(f"- {verdict.verdict}" for verdict in comparison.pairs),
            "",
            *map(_plain, comparison.caveats),
            "",
            "## Loading",
            "",
            show_loading(task, labels, recipe.model, whole),
            "",
            f"The base, {_code(base.name)}, is {where}. Or, labels and all: "
            f"`lora-tune predict {REPOSITORY} {asking}`, which first checks every file "
            "against `manifest.json`. "
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
            f"longer ones are cut on the {recipe.data.truncation_side}. {task.limits} "
            "The figures above hold for the test rows; on other texts they may be worse. What the "
            "base model learnt, its bias included, is still in it, and its licence applies.",
            "",
        ]
    )


def write_merged_card(manifest: Manifest, parity: "Parity") -> str:
    """Write the card of a merged model."""
    task = find_task(manifest.task)
    report = [[name.replace("_", " "), value] for name, value in vars(parity).items()]
    rows = [[name, _code(str(value))] for name, value in report if value is not None]
    return "\n".join(
        [
            f"# {_plain(manifest.recipe_name)}, merged",
            "",
            f"{_code(manifest.base.name)} with LoRA merged into its weights, "
            f"{task.purpose.format(labels=', '.join(map(_code, manifest.labels)))}. A plain "
            "transformers model:",
            "",
            "```python",
            *_using(task),
            "```",
            "",
            _table(rows, ["against the adapter unmerged", ""]),
            "",
        ]
    )


def _using(task: Task) -> list[str]:
    """How a merged model is used by transformers alone."""
    if task.pipeline_options is not None:
        return [
            "from transformers import pipeline",
            f'answer = pipeline("{task.pipeline}", "PATH"{task.pipeline_options})',
        ]
    return [
        f"from transformers import {task.auto_class}, AutoTokenizer",
        'tokenizer = AutoTokenizer.from_pretrained("PATH")',
        f'model = {task.auto_class}.from_pretrained("PATH")',
        'answer = model.generate(**tokenizer("...", return_tensors="pt"), max_new_tokens=64)',
    ]


def _metadata(recipe: Recipe, base: Base, comparison: Comparison, *, is_hub: bool) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    source, tag = recipe.source_as_written, find_task(recipe.task).pipeline
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
        base_model=None if base.is_local else base.name,  # the Hub refuses a path
        library_name="peft",
        pipeline_tag=tag,
        tags=["lora", "lora_tune"],
        model_name=recipe.name,
        eval_results=results,
    )
    return str(data.to_yaml())


def show_loading(
    task: Task, labels: Sequence[str], model: ModelConfig, whole: Sequence[str]
) -> str:
    """Show how the adapter, its base as while training, is loaded by PEFT and transformers alone.

    Args:
        whole: modules of the base that are not quantised.
    """
    options = quantization_options(model, skipped=whole) if model.quantization else {}
    told = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return LOADING.format(
        configuration=", BitsAndBytesConfig" if options else "",
        quantization=f"quantization = BitsAndBytesConfig({told})\n" if options else "",
        loaded=f'dtype="{model.dtype}"' + (", quantization_config=quantization" if options else ""),
        model_class=task.auto_class.replace("AutoModel", "AutoPeftModel"),
        labels=f"labels = {_literal(labels)}\n" if labels else "",
        named=", id2label=dict(enumerate(labels))" if labels else "",
        repository=REPOSITORY,
    )


def _unusual(lora: LoraConfig) -> list[list[object]]:
    """The keys of `lora:` that no other line tells, where they are not at their defaults."""
    told, default = {"rank", "alpha", "dropout", "target_modules"}, LoraConfig()
    return [
        [name.replace("_", " "), _code(json.dumps(value))]
        for name, value in vars(lora).items()
        if name not in told and value != getattr(default, name)
    ]


def _prompting(data: DataConfig) -> list[list[object]]:
    """What a text is put into before the model sees it, where it is put into anything."""
    told = {"prompt": data.prompt, "system": data.system}
    rows: list[list[object]] = [
        [key, _code(json.dumps(text, ensure_ascii=False))] for key, text in told.items() if text
    ]
    return [*rows, ["chats", "by the tokenizer's chat template"]] if data.is_chat else rows


def _table(rows: Sequence[Sequence[object]], headers: Sequence[str]) -> str:
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _code(text: str) -> str:
    return f"<code>{_plain(text)}</code>"


def _plain(text: str) -> str:
    """Text from data or recipes, in which Markdown and HTML find nothing of theirs."""
    line = html.escape(" ".join(text.split()))
    return MARKDOWN.sub(lambda match: f"&#{ord(match[0])};", line)


def _literal(labels: Sequence[str]) -> str:
    """Label names as a Python list that cannot end the code around it."""
    return ascii(list(labels)).replace("`", "\\x60").replace("<", "\\x3c")
