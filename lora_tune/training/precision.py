"""Resolves `training.precision: auto` for a recipe and a device."""

import os
from typing import Any

from lora_tune.config.recipe import Recipe
from lora_tune.config.training import AUTOCAST_FIELDS, find_precision
from lora_tune.system.environment import find_bfloat16_units

SLOW_BFLOAT16 = (
    "training.{}: this device has no instructions for bfloat16 and emulates them; float32 is "
    "likely faster. Remove this key to train in float32."
)


def resolve_precision(recipe: Recipe, device: str) -> str:
    """Find the precision that a recipe is trained in on a device.

    What the recipe asks for rules, then what `accelerate launch --mixed_precision` asks for.
    Otherwise it is bfloat16 where the device multiplies bfloat16 in hardware, and else float32:

    - On GPUs before compute capability 8.0 it is float32, although they multiply float16. Its
      largest number is 65,504, so that the loss must be scaled, and the activations of some
      models, such as T5, overflow.
    - On Apple GPUs it is float32: those of M1 and M2 emulate bfloat16, and torch cannot tell them
      from others.
    - A base model that is quantized, or not in float32, is trained without autocast: `model.dtype`
      is the type of its products.
    - Sharded trainings (`deepspeed`, `fsdp`) are in float32, as their own settings expect.

    It depends on the recipe and the machine alone, so that two runs give the same adapter.

    Args:
        device: cuda, mps or cpu.

    Returns:
        float32, bfloat16 or float16.

    Source: Micikevicius et al. 2018, arXiv 1710.03740, section 3.2 (loss scaling); for Apple GPUs,
        https://github.com/huggingface/transformers/pull/40458.
    """
    training = recipe.training
    asked = find_precision(training)
    if asked != "auto":
        return asked
    if recipe.model.is_rounded:
        return "float32"
    launched = AUTOCAST_FIELDS.get(os.environ.get("ACCELERATE_MIXED_PRECISION", ""))
    if launched:
        return launched
    if is_sharded(training):
        return "float32"
    has_units = device != "mps" and find_bfloat16_units(device) not in (None, "none")
    return "bfloat16" if has_units else "float32"


def is_sharded(training: dict[str, Any]) -> bool:
    """Whether DeepSpeed or FSDP distributes the weights over processes."""
    launched = ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP")  # set by `accelerate launch`
    return bool(training.get("deepspeed") or training.get("fsdp")) or any(
        os.environ.get(name, "").lower() in ("1", "true") for name in launched
    )


def find_slow_precision(training: dict[str, Any], device: str) -> str | None:
    """Return a warning where the precision that a `training:` section asks for is emulated.

    Args:
        device: cuda, mps or cpu.
    """
    if find_precision(training) != "bfloat16" or find_bfloat16_units(device) != "none":
        return None
    return SLOW_BFLOAT16.format("bf16" if training.get("bf16") else "precision")
