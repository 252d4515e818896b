"""Everything of a run that can be resolved and checked before weights are loaded."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lora_tune.config.recipe import Recipe
from lora_tune.data.preprocessing import Preprocessor
from lora_tune.data.splits import load_data
from lora_tune.lora.initialization import check_row_count
from lora_tune.lora.target_modules import resolve_target_modules
from lora_tune.metrics.text import check_text_metrics
from lora_tune.models.checkpoint import resolve_checkpoint
from lora_tune.models.configuration import check_generation_length
from lora_tune.models.pooling import resolve_pooling
from lora_tune.models.tokenizer import load_tokenizer
from lora_tune.run_context import RunContext
from lora_tune.system.environment import find_device
from lora_tune.tasks import make_task, pooled_task
from lora_tune.training.arguments import check_arguments
from lora_tune.training.precision import resolve_precision


def prepare(recipe: Recipe, *, checkpoints: Path, show: Callable[[Any], None]) -> RunContext:
    """Resolve the task, the checkpoint and its target modules; load the tokenizer and the data.

    Args:
        checkpoints: the folder of Trainer's checkpoints.
        show: takes each table or line when it is known.

    Raises:
        LoraTuneError: the recipe, its data or its base model is not right.
    """
    task = make_task(recipe.task, threshold=recipe.data.threshold)
    precision = resolve_precision(recipe, find_device())
    recipe = replace(recipe, training=recipe.training | {"precision": precision})
    for warning in check_arguments(recipe, task=task, checkpoints=checkpoints):
        show(warning)
    checkpoint = resolve_checkpoint(recipe.model)
    task = pooled_task(task, resolve_pooling(checkpoint, recipe.model))
    targets = resolve_target_modules(checkpoint, recipe.model, lora=recipe.lora, task=task)
    check_generation_length(checkpoint, recipe.generation, task=task)
    tokenizer = load_tokenizer(checkpoint, recipe.model, data=recipe.data)
    data = load_data(recipe.data, task, tokenizer)
    check_row_count(recipe.lora, len(data.train.encoded))
    undefined = check_text_metrics(recipe.generation.metric, data.test)
    data = replace(data, warnings=[*data.warnings, *undefined])
    preprocessor = Preprocessor(task, recipe.data, tokenizer)
    return RunContext(
        recipe=recipe,
        task=task,
        checkpoint=checkpoint,
        targets=targets,
        tokenizer=tokenizer,
        data=data,
        example_inputs=preprocessor.preprocess_rows(recipe.examples, where="examples"),
        checkpoints=checkpoints,
        show=show,
    )
