"""An adapted model trained on labelled rows, the best checkpoint kept; on transformers.Trainer."""

import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import EarlyStoppingCallback, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from lora_tune.adapter_trainer import AdapterTrainer
from lora_tune.data import Data
from lora_tune.environment import find_device
from lora_tune.errors import RecipeError
from lora_tune.fast.cast_weights import cast_weights
from lora_tune.fast.chunked_loss import find_output_layer
from lora_tune.fast.first_token import find_top_layer, first_token
from lora_tune.fast.frozen_trunk import frozen_trunk
from lora_tune.history import History, list_evaluations, list_steps
from lora_tune.suggestions import did_you_mean
from lora_tune.tasks import Task
from lora_tune.tasks.writing_task import WritingTask
from lora_tune.training_fields import (
    EARLY_STOPPING_FIELDS,
    OWN_FIELDS,
    RENAMED_FIELDS,
    training_fields,
)

if TYPE_CHECKING:
    from peft import PeftModel


def make_arguments(training: dict[str, Any], *, task: Task, checkpoints: Path) -> TrainingArguments:
    """Make the Trainer's arguments from a recipe's `training:` section.

    Args:
        task: its metric chooses the best checkpoint where the recipe names none.
        checkpoints: Trainer's own folder.

    Raises:
        RecipeError: TrainingArguments refuses a value or a combination, or a tracker is not there.
    """
    fields = {key: value for key, value in training.items() if key not in OWN_FIELDS}
    for old, new in RENAMED_FIELDS.items():
        if old in fields and new in training_fields():
            fields[new] = fields.pop(old)
    if find_device() == "cpu":
        fields["use_cpu"] = True  # else bf16 is refused where there is no accelerator
        if fields.get("fp16"):  # Trainer would leave it out in silence
            raise RecipeError("training.fp16: needs a GPU, found the CPU; use training.bf16=true")
    chosen = fields["metric_for_best_model"] = fields["metric_for_best_model"] or task.measure.name
    names = ("loss", *task.metrics)
    if fields.get("greater_is_better") is None and chosen.removeprefix("eval_") in task.falling:
        fields["greater_is_better"] = False
    if chosen.removeprefix("eval_") not in names:
        near = did_you_mean(chosen, names) or f"; there are {', '.join(names)}"
        raise RecipeError(f"training.metric_for_best_model: {chosen!r} is not measured{near}")
    for field in dataclasses.fields(TrainingArguments):
        value, choices = fields.get(field.name), field.metadata.get("choices")
        if choices and isinstance(value, str) and value not in choices:
            near = did_you_mean(value, choices) or f"; there are {', '.join(choices)}"
            raise RecipeError(f"training.{field.name}: {value!r} is none of its values{near}")
    try:
        arguments = TrainingArguments(output_dir=str(checkpoints), **fields)
        for tracker in get_reporting_integration_callbacks(arguments.report_to):
            tracker()  # each says here whether its package is installed
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        message = str(error).strip().splitlines()[0]
        # An enum's message begins with the value; a tracker's holds its name.
        keys = [k for k, v in fields.items() if v and message.startswith((f"{v} ", f"'{v}' "))]
        keys = keys or (["report_to"] if "report_to" in message or "Callback" in message else [])
        where = f"training.{keys[0]}" if len(keys) == 1 else "training"
        raise RecipeError(f"{where}: {message}") from None
    if training["early_stopping_patience"] is not None and arguments.eval_strategy == "no":
        raise RecipeError("training.early_stopping_patience: needs an eval_strategy, such as epoch")
    arguments.disable_tqdm = arguments.disable_tqdm or not sys.stderr.isatty()
    arguments.dataloader_pin_memory = arguments.dataloader_pin_memory and find_device() == "cuda"
    return arguments


def train_adapter(
    model: "PeftModel",
    data: Data,
    arguments: TrainingArguments,
    *,
    training: dict[str, Any],
    task: Task,
    collate: Callable[..., Any],
    show: Callable[[str], None],
    lora_plus_ratio: float | None = None,
) -> History:
    """Train the model in place on data.train, evaluated and selected on data.validation.

    Args:
        lora_plus_ratio: the learning rate of each B over that of all else; None: the same.
        show: takes a line for each evaluation.

    Raises:
        LoraTuneError: the loss became NaN or infinite, or the optimizer has rates of its own.
    """
    trainer = AdapterTrainer(model, arguments, data=data, task=task, collate=collate, show=show)
    trainer.lora_plus_ratio = lora_plus_ratio
    trainer.is_fast = training["fast"]
    trainer.token_budget = training["token_budget"]
    trainer.has_own_batches = "train_sampling_strategy" not in training
    trainer.most_evaluated = training.get("per_device_eval_batch_size")
    if training["early_stopping_patience"] is not None:
        trainer.add_callback(
            EarlyStoppingCallback(**{k: training[k] for k in EARLY_STOPPING_FIELDS})
        )
    start = time.perf_counter()
    fast = training["fast"]
    if fast and find_device() == "cpu":
        if arguments.bf16:
            trainer.casts = cast_weights(model, torch.bfloat16)
        if arguments.bf16 or model.dtype == torch.bfloat16:
            trainer.take_few_widths(collate)
    try:
        with trainer.standing_in as standing_in:
            if fast:
                is_whole = not (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled)
                if is_whole and isinstance(task, WritingTask):  # no part of a weight elsewhere
                    trainer.output_layer = find_output_layer(
                        model, data, arguments, collate=collate
                    )
                # The proof is on the model as it is; a trunk of all layers takes the last one too.
                top = find_top_layer(model, data, arguments, collate=collate)
                standing_in.enter_context(frozen_trunk(model, data, arguments, collate=collate))
                standing_in.enter_context(first_token(top))
            trainer.train()
    finally:
        trainer.casts.clear()  # the trainer refers to itself, and so would live on with them
    # Under bf16 or fp16 it wrapped forward in autocast; evaluation is without, on both sides.
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    state = trainer.state
    return History(
        evaluations=list_evaluations(state.log_history),
        steps=list_steps(state.log_history),
        best_step=state.best_global_step if arguments.load_best_model_at_end else None,
        train_seconds=time.perf_counter() - start,
    )
