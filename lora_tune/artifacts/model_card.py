"""The card of an adapter or a merged model: what it is, its scores, how to load it."""

import json
from collections.abc import Sequence
from typing import Any

from lora_tune.artifacts.card_text import (
    REPOSITORY,
    TASK_TEXTS,
    code,
    plain,
    results_table,
    table,
    write_metadata,
)
from lora_tune.artifacts.manifest import Manifest
from lora_tune.config.data import DataConfig
from lora_tune.config.lora import LoraConfig
from lora_tune.config.model import ModelConfig
from lora_tune.evaluation.comparison import Comparison, Cost, describe_recommendation
from lora_tune.models.quantization import quantization_options
from lora_tune.run_context import RunContext
from lora_tune.tasks import Task, make_task

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


def write_model_card(
    context: RunContext,
    comparison: Comparison,
    *,
    cost: Cost,
    training: Sequence[tuple[str, str]],
    threshold: float | None,
    unquantized: Sequence[str],
) -> str:
    """Write an adapter's card in Markdown, with the metadata that the Hub reads.

    Args:
        training: settings of the training, and their values.
        threshold: of a label's probability, where rows have several labels.
        unquantized: modules of the base model that are never quantized.
    """
    recipe, task, checkpoint = context.recipe, context.task, context.checkpoint
    lora, labels = recipe.lora, context.data.labels
    text = TASK_TEXTS[task.output_kind]
    untrained = (
        " The base model's head is untrained: its predictions are at chance level."
        if comparison.untrained_head
        else ""
    )
    recommendation = describe_recommendation(comparison, adapter="this adapter", baseline=None)
    settings: list[list[object]] = [
        ["rank", lora.rank],
        ["alpha", f"{lora.alpha:g}"],
        ["dropout", f"{lora.dropout:g}"],
        ["target modules", code(json.dumps(lora.target_modules))],
        *_other_lora_settings(lora),
        *_prompt_settings(recipe.data),
        *_threshold(threshold),
        ["trainable parameters, head included", f"{cost.trainable_parameters:,}"],
        ["total parameters", f"{cost.total_parameters:,}"],
        ["size of the weights file, bytes", f"{cost.adapter_bytes:,}"],
        ["weights of the base model while training", recipe.model.precision],
        *map(list[object], training),
        ["seed", recipe.all_seeds[0]],
    ]
    where = "a local folder, which others need too" if checkpoint.is_local else "on the Hub"
    is_one_text = len(task.columns(recipe.data, labeled=False)) == 1
    options = '--text "..."' if is_one_text else "--input rows.jsonl"
    purpose = text.purpose.format(labels=", ".join(map(code, labels)))
    return "\n".join(
        [
            "---",
            write_metadata(
                context,
                comparison.adapted,
                name=recipe.name,
                tags=["lora", "lora_tune"],
                library="peft",
                needs_base=True,
            ),
            "---",
            f"# {plain(recipe.name)}",
            "",
            f"A LoRA adapter for {code(checkpoint.name)}, trained on "
            f"{code(recipe.source_as_written)} {purpose}. Made with lora_tune.",
            "",
            "## Results",
            "",
            results_table(comparison),
            "",
            f"On the same {comparison.test_rows} test rows.{untrained} {recommendation}",
            "",
            *(f"- {other.verdict}" for other in comparison.comparisons),
            "",
            *map(plain, comparison.warnings),
            "",
            "## Loading",
            "",
            show_loading(task, labels, model=recipe.model, unquantized=unquantized),
            "",
            f"The base model, {code(checkpoint.name)}, is {where}. "
            f"`lora-tune predict {REPOSITORY} {options}` loads it with its label names, after it "
            "has checked every file against `manifest.json`. "
            f"Give the tokenizer `truncation=True`: the adapter was trained on up to "
            f"{recipe.data.max_length} tokens.",
            "",
            "## Adapter",
            "",
            table(settings, ["setting", "value"]),
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


def _threshold(threshold: float | None) -> list[list[object]]:
    return [] if threshold is None else [["probability from which a label is given", threshold]]


def write_merged_card(manifest: Manifest, parity: Any) -> str:
    """Write the card of a merged model.

    Args:
        parity: of the merged model and the adapter, a dataclass; its fields become a table.
    """
    assert manifest.base is not None
    task = make_task(manifest.task, pooling=manifest.base.pooling)
    purpose = TASK_TEXTS[task.output_kind].purpose
    report = [[name.replace("_", " "), value] for name, value in vars(parity).items()]
    rows = [[name, code(str(value))] for name, value in report if value is not None]
    return "\n".join(
        [
            f"# {plain(manifest.recipe_name)}, merged",
            "",
            f"{code(manifest.base.name)} with LoRA merged into its weights, "
            f"{purpose.format(labels=', '.join(map(code, manifest.labels)))}. A plain "
            "transformers model:",
            "",
            "```python",
            *_merged_usage(task),
            "```",
            "",
            table(rows, ["compared with the adapter", ""]),
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
        [name.replace("_", " "), code(json.dumps(value))]
        for name, value in vars(lora).items()
        if name not in written and value != getattr(default, name)
    ]


def _prompt_settings(data: DataConfig) -> list[list[object]]:
    """The templates that a text is put into before the model sees it."""
    written = {"prompt": data.prompt, "system": data.system}
    rows: list[list[object]] = [
        [key, code(json.dumps(text, ensure_ascii=False))] for key, text in written.items() if text
    ]
    return [*rows, ["chats", "by the tokenizer's chat template"]] if data.is_chat else rows


def _literal(labels: Sequence[str]) -> str:
    """Label names as a Python list that cannot end the code around it."""
    return ascii(list(labels)).replace("`", "\\x60").replace("<", "\\x3c")
