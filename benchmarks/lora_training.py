"""A recipe's training in separate steps, for benchmarks that time one of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lora_tune.lora.adapter import attach_adapter
from lora_tune.models.loading import LoadedModel
from lora_tune.run_context import RunContext
from lora_tune.tasks.recipes import load_recipe
from lora_tune.training.preparation import prepare

if TYPE_CHECKING:
    from peft import PeftModel


def load_context(recipe_name: str, overrides: Sequence[str], *, checkpoints: Path) -> RunContext:
    """Load a recipe's tokenizer and rows, without weights and without its examples.

    Args:
        overrides: `key=value`, as on the command line.
        checkpoints: the folder of Trainer's checkpoints.
    """
    recipe = load_recipe(recipe_name, [*overrides, "examples=[]"])
    return prepare(recipe, checkpoints=checkpoints, show=lambda _: None)


def attach_lora(context: RunContext, loaded: LoadedModel) -> "PeftModel":
    """Attach the recipe's LoRA, initialized as usual: A at random, B with zeros."""
    lora = context.recipe.lora
    assert lora.init_lora_weights == "default", lora.init_lora_weights
    return attach_adapter(
        loaded.model, lora, targets=context.targets, head=loaded.head, task=context.task
    )
