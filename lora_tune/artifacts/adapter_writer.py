"""A trained adapter written to its directory: weights, tokenizer, labels, model card, manifest."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lora_tune.artifacts.manifest import CARD_FILE, TrainingRecord, record_tensors, write_manifest
from lora_tune.artifacts.model_card import write_model_card
from lora_tune.config.redaction import redact
from lora_tune.evaluation.comparison import Comparison, Cost
from lora_tune.lora.adapter import adapter_tensors, write_peft_directory
from lora_tune.run_context import RunContext
from lora_tune.system.environment import peak_memory_bytes
from lora_tune.tasks import Task
from lora_tune.training.training import TrainedLora

if TYPE_CHECKING:
    from torch.nn import Module


def save_adapter(
    folder: Path,
    model: "Module",
    context: RunContext,
    *,
    lora: TrainedLora,
    comparison: Comparison,
    unquantized: Sequence[str],
) -> Cost:
    """Write a trained adapter to a new directory.

    Args:
        model: the trained one.
        context: of the run.
        lora: what the training gave.
        comparison: for the model card.
        unquantized: modules of the base model that are never quantized, for the model card.

    Returns:
        What it took to train, and the bytes of its weights file.
    """
    adapter_bytes = write_peft_directory(
        model,
        folder,
        checkpoint=context.checkpoint,
        tokenizer=context.tokenizer,
        labels=context.data.labels,
        task=context.task,
    )
    cost = Cost(
        trainable_parameters=lora.adapter.trainable_parameters,
        total_parameters=lora.adapter.total_parameters,
        adapter_bytes=adapter_bytes,
        train_seconds=lora.history.train_seconds,
        peak_memory_bytes=peak_memory_bytes(),
    )
    card = write_model_card(
        context,
        comparison,
        cost=cost,
        training=_describe_training(lora),
        threshold=lora.result.evaluation.task.chosen_threshold,
        unquantized=unquantized,
    )
    (folder / CARD_FILE).write_text(redact(card), encoding="utf-8")
    write_manifest(
        folder,
        training=record_training(context, lora.result.evaluation.task),
        tensors=record_tensors(adapter_tensors(model)),
    )
    return cost


def _describe_training(lora: TrainedLora) -> list[tuple[str, str]]:
    """Name the settings of the training that a card shows."""
    settings = [
        ("autocast while training", lora.autocast or "none"),
        ("learning rate", f"{lora.arguments.learning_rate:g}"),
    ]
    if lora.history.is_refitted:
        return [*settings, ("steps on train and validation rows", f"{lora.history.kept_step}")]
    return [*settings, ("epochs, at most", f"{lora.arguments.num_train_epochs:g}")]


def record_training(context: RunContext, task: Task) -> TrainingRecord:
    """Record what a model of a run is trained from, for its manifest.

    Args:
        task: with the threshold of this model.
    """
    return TrainingRecord(
        task=task.name,
        labels=context.data.labels,
        checkpoint=context.checkpoint,
        model_config=context.recipe.model,
        recipe_name=context.recipe.name,
        recipe=context.recipe.text,
        data_fingerprint=context.data.fingerprint(),
        threshold=task.chosen_threshold,
    )
