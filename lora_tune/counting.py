"""What a recipe would train: parameters and bytes from the base's configuration, no weights."""

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lora_tune.adapter import (
    adapter_tensors,
    attach_adapter,
    count_parameters,
    describe_adapter,
)
from lora_tune.base import find_base
from lora_tune.errors import RecipeError
from lora_tune.model import build_meta_model, load_tokenizer
from lora_tune.recipe import Recipe
from lora_tune.starts import remember_start, settle_adapter
from lora_tune.targets import find_targets
from lora_tune.tasks import find_task

if TYPE_CHECKING:
    import torch

FLOAT_BYTES = 4  # adapters are trained and saved in fp32
HEADER_ALIGNMENT = 8


@dataclass(frozen=True)
class ParameterCount:
    """The size of a recipe's adapter, and of what it adapts."""

    recipe: str
    base: str
    rank: int
    target_modules: list[str]
    adapter_parameters: int  # of LoRA alone, as trained
    head_parameters: int
    other_parameters: int  # of the base: biases, and modules trained whole
    total_parameters: int  # trunk, head and adapter
    saved_rank: int  # in adapter_config.json; twice the rank where the base was changed
    adapter_bytes: int  # of adapter_model.safetensors

    @property
    def trainable_parameters(self) -> int:
        """Adapter, head and what else of the base is trained."""
        return self.adapter_parameters + self.head_parameters + self.other_parameters


def count_recipe(recipe: Recipe) -> ParameterCount:
    """Build a recipe's adapted model on the meta device and count.

    Raises:
        RecipeError: the recipe does not name its labels, so the head's size is unknown.
        ModelError: the base's configuration cannot be found.
    """
    task = find_task(recipe.task)
    labels = task.known_labels(recipe.data)
    if labels is None:
        raise RecipeError(f"{recipe.name}: data.labels is needed to know the size of the head")
    base = find_base(recipe.model, weights=False)
    # Only an added pad token can change a count, so only then is the tokenizer needed.
    tokenizer = load_tokenizer(base, recipe.model, recipe.data) if recipe.model.pad_token else None
    model, on_top = build_meta_model(
        base, recipe.model, task=task, labels=labels, tokenizer=tokenizer
    )
    targets = find_targets(base, recipe.model, recipe.lora, task)
    head = on_top if task.has_head else []
    # Shapes tell all, and there are no weights to take a start from.
    blank = replace(recipe.lora, init_lora_weights="default")
    adapted = attach_adapter(model, blank, targets=targets, head=head, task=task)
    _, total = count_parameters(adapted)
    modules = describe_adapter(adapted, head)
    counts = dict.fromkeys(("adapter", "bias", "whole", "head"), 0)
    for module in modules:
        counts[module.kind] += module.parameters
    settle_adapter(adapted, recipe.lora, remember_start(adapted))
    shapes = {name: tensor.shape for name, tensor in adapter_tensors(adapted).items()}
    return ParameterCount(
        recipe=recipe.name,
        base=base.name,
        rank=recipe.lora.rank,
        target_modules=targets,
        adapter_parameters=counts["adapter"],
        head_parameters=counts["head"],
        other_parameters=counts["bias"] + counts["whole"],
        total_parameters=total,
        saved_rank=adapted.peft_config["default"].r,
        adapter_bytes=safetensors_bytes(shapes),
    )


def safetensors_bytes(shapes: "dict[str, torch.Size]") -> int:
    """The size of a safetensors file that PEFT writes for fp32 tensors of these shapes.

    Source: safetensors' README, "Format": 8 bytes of length, a JSON header padded with spaces to
    a multiple of 8, the tensors.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in sorted(shapes.items()):
        start, end = end, end + FLOAT_BYTES * shape.numel()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-length // HEADER_ALIGNMENT) * HEADER_ALIGNMENT + end
