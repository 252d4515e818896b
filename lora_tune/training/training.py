"""One function trains: the published seed, other seeds, and what LoRA is compared with."""

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lora_tune.data.rows import join_splits
from lora_tune.evaluation.generation import evaluate_test, make_generator
from lora_tune.evaluation.model_evaluation import evaluate_model
from lora_tune.evaluation.predictor import Predictor
from lora_tune.evaluation.results import FULL, LAST_LAYERS, LORA, Result
from lora_tune.fast.acceleration import merged_for_evaluation
from lora_tune.lora.adapter import AdapterSummary, attach_adapter, describe_adapter
from lora_tune.lora.initialization import (
    TrainingRows,
    initialize_adapter,
    is_unchanged,
    restore_base_weights,
)
from lora_tune.models.layers import trained_output_layer, unfreeze_layers
from lora_tune.run_context import RunContext
from lora_tune.system.environment import free_memory, parallel_devices
from lora_tune.tasks import Task
from lora_tune.training.arguments import make_arguments
from lora_tune.training.budget import NO_EVALUATION, resolve_budget
from lora_tune.training.head_initialization import HeadStart, prepare_head
from lora_tune.training.history import History, list_evaluations, list_steps
from lora_tune.training.target_scaling import TargetScaling
from lora_tune.training.trainer import AdapterTrainer

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import TrainingArguments

UNCHANGED = (
    "Training did not change the adapter: it is as it was initialized. Train for more steps, or "
    "with fewer warmup steps."
)


@dataclass(frozen=True)
class TrainedLora:
    """What one training of LoRA gave: what was trained, how, and its result on the test rows."""

    adapter: AdapterSummary
    history: History
    arguments: "TrainingArguments"
    result: Result
    warnings: list[str]

    @property
    def autocast(self) -> str | None:
        """The type that it was trained in under autocast; None without."""
        return "bfloat16" if self.arguments.bf16 else "float16" if self.arguments.fp16 else None


def train_lora(context: RunContext, seed: int) -> tuple[TrainedLora, Predictor]:
    """Load the base model, attach and initialize LoRA, train it, and evaluate it on the test rows.

    Returns:
        What the training gave, and the trained model, ready to predict.

    Raises:
        LoraTuneError: the loss became NaN or infinite, or a setting does not fit the base model.
    """
    is_published = seed == context.recipe.all_seeds[0]
    if not is_published:
        context.show(f"Seed {seed}:")
    recipe, data = context.recipe, context.data
    adapted, trained = _train_adapter(context, seed, shows_summary=is_published)
    note = ""
    if recipe.training["refit"]:
        steps = trained.history.kept_step
        note = f"trained again on train and validation for {steps} steps"
        context.show(f"Training again on the rows of train and validation, for {steps} steps")
        # By the first model: the second is trained on the validation rows too.
        task = _tune(context, adapted, trained.head_start.task)
        del adapted  # before the second is loaded
        adapted, again = _train_adapter(_refit_context(context), seed, steps=steps)
        seconds = trained.history.train_seconds + again.history.train_seconds
        trained = replace(
            trained,
            history=replace(trained.history, train_seconds=seconds, is_refitted=True),
            head_start=replace(trained.head_start, task=task),
            warnings=again.warnings,
        )
    result = evaluate_trained(
        context,
        LORA,
        adapted,
        trained.history,
        head_start=trained.head_start,
        # As trained: for some initializations, restoring the base weights doubles the rank.
        trained_parameters=trained.adapter.trainable_parameters,
        note=note,
    )
    predictor = Predictor(
        adapted,
        context.tokenizer,
        result.evaluation.task,
        data.labels,
        recipe.generation,
        recipe.data,
    )
    lora = TrainedLora(
        trained.adapter, trained.history, trained.arguments, result, trained.warnings
    )
    return lora, predictor


@dataclass(frozen=True)
class _TrainedAdapter:
    adapter: AdapterSummary
    history: History
    arguments: "TrainingArguments"
    head_start: HeadStart
    warnings: list[str]


def _train_adapter(
    context: RunContext, seed: int, *, steps: int | None = None, shows_summary: bool = False
) -> tuple[Any, _TrainedAdapter]:
    """Load the base model, attach and initialize LoRA, and train it.

    Args:
        steps: to train for without evaluations; None for what the recipe says.

    Returns:
        The PEFT model, and what the training gave.
    """
    free_memory()  # of the training before
    recipe, task = context.recipe, context.task
    model, head, has_untrained_head = context.load_base_model(seed)
    head_start = prepare_head(model, context, head=head, is_untrained=has_untrained_head)
    adapted = attach_adapter(model, recipe.lora, targets=context.targets, head=head, task=task)
    rows = TrainingRows(context.data.train.encoded, context.collate(model), seed)
    initial = initialize_adapter(
        adapted,
        recipe.lora,
        rows=rows,
        load_full=lambda: context.load_full_precision_model().model,
    )
    summary = describe_adapter(adapted, head)
    if shows_summary:
        context.show(summary)
    context = replace(context, task=head_start.task)
    changes: dict[str, Any] = {"seed": seed}
    if steps is not None:
        changes |= NO_EVALUATION | {"max_steps": steps}
    history, arguments = train_model(context, LORA, adapted, changes, scaling=head_start.scaling)
    warnings = [UNCHANGED] if is_unchanged(adapted, initial) else []
    restore_base_weights(adapted, recipe.lora, initial=initial)
    return adapted, _TrainedAdapter(summary, history, arguments, head_start, warnings)


def _refit_context(context: RunContext) -> RunContext:
    """The context of a training on the rows of train and validation together."""
    data = context.data
    return replace(context, data=replace(data, train=join_splits(data.train, data.validation)))


def train_costly_baselines(context: RunContext) -> list[Result]:
    """Train what the recipe's `baselines:` section asks for: the last layers, or every weight."""
    baselines, results = context.recipe.baselines, []
    seed = context.recipe.all_seeds[0]
    depths: list[tuple[str, int | None]] = []
    depths += [(LAST_LAYERS, baselines.last_layers)] if baselines.last_layers else []
    depths += [(FULL, None)] if baselines.full_fine_tuning else []
    for name, depth in depths:
        free_memory()
        model, head, has_untrained_head = context.load_base_model(seed)
        head_start = prepare_head(model, context, head=head, is_untrained=has_untrained_head)
        unfreeze_layers(model, depth)
        note = "all weights" if depth is None else f"the last {depth} layers and the head"
        context.show(f"Baseline, training {note}:")
        changes = {"seed": seed, "learning_rate": baselines.learning_rate}
        history, _ = train_model(context, name, model, changes, scaling=head_start.scaling)
        note = f"{note}, learning rate {baselines.learning_rate:g}"
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        result = evaluate_trained(
            context,
            name,
            model,
            history,
            head_start=head_start,
            trained_parameters=trained,
            note=note,
        )
        results.append(result)
        del model
    return results


def train_model(
    context: RunContext,
    name: str,
    model: "Module",
    changes: dict[str, Any],
    *,
    scaling: TargetScaling | None = None,
) -> tuple[History, "TrainingArguments"]:
    """Train a model's unfrozen parameters in place, with the recipe's settings.

    Trains on data.train; evaluates and selects the best epoch on data.validation.

    Args:
        name: of the system, for the folder of its checkpoints.
        changes: to the recipe's `training:` section; the seed is among them.
        scaling: of the numbers that a regression predicts; the model is to predict standardized
            numbers, and predicts them in their own unit afterwards.

    Returns:
        What happened, and Trainer's arguments.

    Raises:
        LoraTuneError: the loss became NaN or infinite, or the optimizer has learning rates of its
            own for parts of the model.
    """
    settings = context.recipe.training | changes
    budget = resolve_budget(
        settings,
        rows=len(context.data.train.encoded),
        can_select=context.data.can_select,
        labels=len(context.data.labels),
        devices=parallel_devices(),
    )
    settings |= budget.settings()
    folder = context.checkpoints / f"{name}-{changes['seed']}"
    arguments = make_arguments(settings, task=context.task, checkpoints=folder)
    start = time.perf_counter()
    trainer = AdapterTrainer(
        model,
        arguments,
        context=context,
        settings=settings,
        scaling=scaling,
        lora_plus_ratio=context.recipe.lora.lora_plus_ratio if name == LORA else None,
    )
    try:
        trainer.train()
        seconds = time.perf_counter() - start
    finally:
        # With bf16 or fp16, accelerate wraps forward in autocast; no evaluation uses autocast.
        trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    if scaling is not None:
        scaling.fold(trained_output_layer(model))
    state = trainer.state
    history = History(
        evaluations=list_evaluations(state.log_history),
        steps=list_steps(state.log_history),
        best_step=state.best_global_step if arguments.load_best_model_at_end else None,
        last_step=state.global_step,
        train_seconds=seconds,
    )
    return history, arguments


def evaluate_trained(
    context: RunContext,
    name: str,
    model: "Module",
    history: History,
    *,
    head_start: HeadStart,
    trained_parameters: int,
    note: str = "",
) -> Result:
    """Evaluate a trained model on the test rows."""
    task, recipe, collate = head_start.task, context.recipe, context.collate(model)
    with merged_for_evaluation(model, enabled=recipe.training["fast"]):
        task = _tune(context, model, task)
        evaluation = evaluate_test(
            model,
            context.data.test,
            task,
            collate=collate,
            generator=make_generator(task, context.tokenizer, recipe.generation),
            title=name,
        )
    return Result(name, evaluation, trained_parameters, history.train_seconds, note)


def _tune(context: RunContext, model: "Module", task: Task) -> Task:
    """Choose the threshold on the validation rows, where it is open and they are enough."""
    if not task.has_open_threshold or not context.data.can_select:
        return task
    validation, collate = context.data.validation, context.collate(model)
    found = evaluate_model(model, validation, task=task, collate=collate, title="")
    return task.tune(found.outputs, validation)
