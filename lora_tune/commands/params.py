"""`params`: counts what recipes train, from the base model's configuration, without weights."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lora_tune.commands.output import show
from lora_tune.commands.process_setup import prepare_process
from lora_tune.commands.shared_arguments import Verbs, add_verb, is_override
from lora_tune.config.recipe import Recipe
from lora_tune.errors import RecipeError
from lora_tune.lora.adapter import adapter_tensors, attach_adapter, describe_adapter
from lora_tune.lora.initialization import record_initial_factors, restore_base_weights
from lora_tune.lora.target_modules import resolve_target_modules
from lora_tune.models.checkpoint import resolve_checkpoint
from lora_tune.models.loading import build_meta_model
from lora_tune.models.pooling import resolve_pooling
from lora_tune.models.tokenizer import load_tokenizer
from lora_tune.report.tables import format_table
from lora_tune.tasks import make_task, pooled_task
from lora_tune.tasks.recipes import load_recipe

if TYPE_CHECKING:
    import torch

FLOAT32_BYTES = 4  # adapters are trained and saved in float32
HEADER_ALIGNMENT = 8  # bytes


@dataclass(frozen=True)
class ParameterCount:
    """The size of a recipe's adapter, and of its base model."""

    recipe: str
    base: str
    rank: int
    target_modules: list[str]
    adapter_parameters: int  # of LoRA, as trained
    head_parameters: int
    other_parameters: int  # of the base model: biases, and modules trained in full
    total_parameters: int  # of base model, head and adapter
    saved_rank: int  # in adapter_config.json; doubled where LoRA starts from the base weights
    adapter_bytes: int  # of adapter_model.safetensors

    @property
    def trainable_parameters(self) -> int:
        """All parameters that are trained."""
        return self.adapter_parameters + self.head_parameters + self.other_parameters


def add_parser(verbs: Verbs) -> argparse.ArgumentParser:
    """Add `params` to the command line."""
    parser = add_verb(verbs, "params", "count what recipes train, without loading weights")
    parser.add_argument(
        "overrides",
        metavar="RECIPE",
        nargs="+",
        help="names or paths of recipes; also key=value, for all of them",
    )
    return parser


def run(options: argparse.Namespace) -> None:
    """Count, and print a table with a row for each recipe."""
    overrides = list(filter(is_override, options.overrides))
    names = [word for word in options.overrides if not is_override(word)]
    if not names:
        raise RecipeError("params: found no recipe, expected the name of at least one")
    recipes = [load_recipe(name, overrides) for name in names]
    prepare_process()
    show(parameter_table([count_recipe(recipe) for recipe in recipes]))


def count_recipe(recipe: Recipe) -> ParameterCount:
    """Count the parameters of a recipe's adapted model, built on the meta device.

    Raises:
        RecipeError: the recipe does not name its labels, so the head's size is unknown.
        ModelError: the base model's configuration cannot be found.
    """
    task = make_task(recipe.task)
    labels = task.labels(recipe.data)
    if labels is None:
        raise RecipeError(f"{recipe.name}: data.labels is needed to know the size of the head")
    checkpoint = resolve_checkpoint(recipe.model, weights=False)
    task = pooled_task(task, resolve_pooling(checkpoint, recipe.model))
    # The tokenizer changes a count only by an added pad token.
    tokenizer = (
        load_tokenizer(checkpoint, recipe.model, data=recipe.data)
        if recipe.model.pad_token
        else None
    )
    model, top_modules = build_meta_model(
        checkpoint, recipe.model, task=task, labels=labels, tokenizer=tokenizer
    )
    targets = resolve_target_modules(checkpoint, recipe.model, lora=recipe.lora, task=task)
    head = top_modules if task.has_head else []
    # Counts depend on shapes only, and there are no weights to initialize LoRA from.
    uninitialized = replace(recipe.lora, init_lora_weights="default")
    adapted = attach_adapter(model, uninitialized, targets=targets, head=head, task=task)
    summary = describe_adapter(adapted, head)
    counts = dict.fromkeys(("adapter", "bias", "whole", "head"), 0)
    for module in summary.modules:
        counts[module.kind] += module.parameters
    restore_base_weights(adapted, recipe.lora, initial=record_initial_factors(adapted))
    shapes = {name: tensor.shape for name, tensor in adapter_tensors(adapted).items()}
    return ParameterCount(
        recipe=recipe.name,
        base=checkpoint.name,
        rank=recipe.lora.rank,
        target_modules=targets,
        adapter_parameters=counts["adapter"],
        head_parameters=counts["head"],
        other_parameters=counts["bias"] + counts["whole"],
        total_parameters=summary.total_parameters,
        saved_rank=adapted.peft_config["default"].r,
        adapter_bytes=safetensors_bytes(shapes),
    )


def safetensors_bytes(shapes: "dict[str, torch.Size]") -> int:
    """Compute the size of the safetensors file that PEFT writes for float32 tensors.

    Source: safetensors' README, "Format": 8 bytes of length, a JSON header padded with spaces to
    a multiple of 8, the tensors.

    Args:
        shapes: of the tensors, by name.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in sorted(shapes.items()):
        start, end = end, end + FLOAT32_BYTES * shape.numel()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-length // HEADER_ALIGNMENT) * HEADER_ALIGNMENT + end


def parameter_table(counts: Sequence[ParameterCount], style: str = "simple") -> str:
    """Format the sizes of recipes' adapters.

    Args:
        counts: one for each recipe.
        style: a table format of tabulate.
    """
    trains_base = any(count.other_parameters for count in counts)
    rows = [
        [
            count.recipe,
            count.base,
            count.rank if count.rank == count.saved_rank else f"{count.rank} as {count.saved_rank}",
            f"{count.adapter_parameters:,}",
            f"{count.head_parameters:,}",
            *([f"{count.other_parameters:,}"] if trains_base else []),
            f"{count.trainable_parameters:,}",
            f"{count.total_parameters:,}",
            f"{count.trainable_parameters / count.total_parameters:.2%}",
            f"{count.adapter_bytes:,}",
        ]
        for count in counts
    ]
    headers = ["recipe", "base model", "rank", "adapter", "head"]
    headers += ["of the base model"] if trains_base else []
    return format_table(rows, [*headers, "trainable", "total", "share", "bytes"], style)
