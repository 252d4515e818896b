"""Trainings beside the one that is published: of other seeds, and of the costlier rungs."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_tune.adapter import attach_adapter
from lora_tune.base import Base
from lora_tune.batching import make_collator
from lora_tune.data import Data
from lora_tune.environment import find_device, free_memory, seed_everything
from lora_tune.fast.merged_lora import merged_lora
from lora_tune.ladder import Rung
from lora_tune.model import load_model, thaw_layers
from lora_tune.recipe import Recipe
from lora_tune.starts import Start, TrainingRows, start_adapter
from lora_tune.tasks import Task
from lora_tune.training import make_arguments, train_adapter
from lora_tune.writing import Writer, evaluate_test, find_writer

if TYPE_CHECKING:
    from peft import PeftModel
    from torch.nn import Module
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Inputs:
    """What every training of a run shares."""

    recipe: Recipe
    task: Task
    base: Base
    targets: list[str]
    tokenizer: "PreTrainedTokenizerBase"
    data: Data
    checkpoints: Path

    @property
    def writer(self) -> Writer | None:
        """What it takes to let a model write, where the task is to."""
        return find_writer(self.task, self.tokenizer, self.recipe.generation)


def load_base_model(inputs: Inputs, seed: int) -> tuple["PreTrainedModel", list[str], bool]:
    """Load the base on its device, its head drawn from a seed; see `load_model`."""
    seed_everything(seed)  # covers head, adapter and the order of the rows
    model, head, fresh_head = load_model(
        inputs.base,
        inputs.recipe.model,
        task=inputs.task,
        labels=inputs.data.labels,
        tokenizer=inputs.tokenizer,
    )
    if inputs.recipe.model.quantization is None:  # bitsandbytes places its own
        model.to(find_device())
    return model, head, fresh_head


def adapt_model(
    inputs: Inputs, model: "PreTrainedModel", head: Sequence[str], seed: int
) -> tuple["PeftModel", Start]:
    """Put the recipe's adapter beside a base, as it is to begin; see `start_adapter`."""

    def load_full() -> "PreTrainedModel":
        return load_model(
            inputs.base,
            inputs.recipe.model.in_full(),
            task=inputs.task,
            labels=inputs.data.labels,
            tokenizer=inputs.tokenizer,
        )[0]

    lora = inputs.recipe.lora
    adapted = attach_adapter(model, lora, targets=inputs.targets, head=head, task=inputs.task)
    collate = make_collator(inputs.tokenizer, inputs.task, model)
    rows = TrainingRows(inputs.data.train.encoded, collate, seed)
    return adapted, start_adapter(adapted, lora, rows=rows, load_full=load_full)


def train_other_seeds(inputs: Inputs, *, show: Callable[[str], None]) -> dict[int, Rung]:
    """Train the recipe's adapter once more for each of its seeds but the first."""
    rungs = {}
    for seed in inputs.recipe.all_seeds[1:]:
        free_memory()  # of the training before
        show(f"Seed {seed}:")
        model, head, _ = load_base_model(inputs, seed)
        adapted, _ = adapt_model(inputs, model, head, seed)
        ratio = inputs.recipe.lora.lora_plus_ratio
        rungs[seed] = _train("lora", adapted, inputs, {"seed": seed}, show=show, ratio=ratio)
        del model, adapted
    return rungs


def train_costly_rungs(inputs: Inputs, *, show: Callable[[str], None]) -> list[Rung]:
    """Train what the recipe's `ladder` asks for: the last layers, or every weight."""
    ladder, rungs = inputs.recipe.ladder, []
    depths: list[tuple[str, int | None]] = []
    depths += [("last_layers", ladder.last_layers)] if ladder.last_layers else []
    depths += [("full", None)] if ladder.full_fine_tuning else []
    for name, depth in depths:
        free_memory()
        seed = inputs.recipe.all_seeds[0]
        model, _, _ = load_base_model(inputs, seed)
        thaw_layers(model, depth)
        note = "every weight" if depth is None else f"the last {depth} layers and the head"
        show(f"Beside the adapter, {note}:")
        changes = {"seed": seed, "learning_rate": ladder.learning_rate}
        rung = _train(name, model, inputs, changes, show=show)
        del model
        rungs.append(replace(rung, note=f"{note}, learning rate {ladder.learning_rate:g}"))
    return rungs


def _train(
    name: str,
    model: "Module",
    inputs: Inputs,
    changes: dict[str, Any],
    *,
    show: Callable[[str], None],
    ratio: float | None = None,
) -> Rung:
    """Train a model's thawed weights with the recipe's budget, and let it answer the test rows."""
    training = inputs.recipe.training | changes
    folder = inputs.checkpoints / "-".join([name, str(changes["seed"])])
    collate = make_collator(inputs.tokenizer, inputs.task, model)
    history = train_adapter(
        model,
        inputs.data,
        make_arguments(training, task=inputs.task, checkpoints=folder),
        training=training,
        task=inputs.task,
        collate=collate,
        show=show,
        lora_plus_ratio=ratio,
    )
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    with merged_lora(model) if training["fast"] else nullcontext():
        evaluation = evaluate_test(
            model, inputs.data.test, inputs.task, collate=collate, writer=inputs.writer, title=name
        )
    return Rung(name, evaluation, trainable, history.train_seconds)
