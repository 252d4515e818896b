"""transformers.Trainer with lora_tune's batches, loss, evaluation and speed-ups."""

import math
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from transformers import Trainer, TrainerControl, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from lora_tune.data.batching import IGNORE_INDEX, split_batch
from lora_tune.errors import LoraTuneError, RecipeError
from lora_tune.evaluation.model_evaluation import evaluate_model, tune
from lora_tune.fast.acceleration import accelerated
from lora_tune.lora.adapter import lora_b_parameters
from lora_tune.models.layers import trained_output_layer
from lora_tune.run_context import RunContext
from lora_tune.training.data_loader import make_loader
from lora_tune.training.early_stopping import EarlyStopping
from lora_tune.training.history import format_evaluation, list_evaluations
from lora_tune.training.target_scaling import TargetScaling

if TYPE_CHECKING:
    from torch.nn import Module


class AdapterTrainer(Trainer):
    """A Trainer with lora_tune's batches, loss, micro-batches, LoRA+ optimizer and evaluation."""

    control: TrainerControl

    def __init__(
        self,
        model: "Module",
        arguments: TrainingArguments,
        *,
        context: RunContext,
        settings: dict[str, Any],
        scaling: TargetScaling | None = None,
        lora_plus_ratio: float | None = None,
    ) -> None:
        """Make a trainer.

        Args:
            settings: the recipe's `training:` section, as it is for this model.
            scaling: of the numbers that a regression predicts; the model predicts standardized
                numbers while it trains.
            lora_plus_ratio: the learning rate of each B over that of all else; None: the same.
        """
        data = context.data
        self.context = context
        self.settings = settings
        self.scaling = scaling
        self.lora_plus_ratio = lora_plus_ratio
        self.class_weights = (
            None if data.class_weights is None else torch.tensor(data.class_weights)
        )
        self.plain_collate = context.collate(model)
        self.acceleration = accelerated(
            model,
            data,
            arguments=arguments,
            task=context.task,
            collate=self.plain_collate,
            enabled=settings["fast"],
        )
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=data.train.encoded,
            eval_dataset=data.validation.encoded,
            data_collator=self.acceleration.collate,
            # A model's own loss is a mean over each micro-batch; Trainer would not scale it for
            # gradient accumulation, since forward takes **kwargs.
            compute_loss_func=self.step_loss,
        )
        for callback in (ProgressCallback, PrinterCallback):
            self.remove_callback(callback)  # they print Python dicts
        if not arguments.disable_tqdm:
            self.add_callback(QuietProgress())
        if settings["early_stopping_patience"] is not None:
            self.add_callback(
                EarlyStopping(
                    settings["early_stopping_patience"],
                    settings["early_stopping_threshold"],
                    show=context.show,
                )
            )

    def train(self, *arguments: Any, **named: Any) -> Any:
        """Train with the speed-ups applied."""
        is_sharded = self.is_deepspeed_enabled or self.is_fsdp_enabled
        with self.acceleration.applied(is_sharded=is_sharded):
            return super().train(*arguments, **named)

    def compute_loss(self, model: Any, *inputs: Any, **named: Any) -> Any:
        """Run a micro-batch and compute its share of its step's loss; called by Trainer."""
        with self.acceleration.forward_of_loss():
            return super().compute_loss(model, *inputs, **named)

    def step_loss(self, model_output: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        """Compute a micro-batch's share of its step's loss; called by Trainer."""
        task = self.context.task
        items = task.is_counted(labels).sum() if num_items_in_batch is None else num_items_in_batch
        smoothing = self.args.label_smoothing_factor
        logits = task.logits(model_output)
        if self.scaling is not None:
            labels = (labels - self.scaling.mean) / self.scaling.scale
        if self.acceleration.output_layer is not None:
            return self.acceleration.loss(logits, labels, items=items, smoothing=smoothing)
        weights = self.class_weights
        return task.loss(
            logits,
            labels,
            items=items,
            smoothing=smoothing,
            weights=None if weights is None else weights.to(logits.device),
        )

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
        """Count the items of a step's loss, over its batches; called by Trainer."""
        counted = []
        for batch in batch_samples:
            labels = batch["labels"]
            is_counted = self.context.task.is_counted(labels)
            counted.append({**batch, "labels": labels.where(is_counted, IGNORE_INDEX)})
        return super()._get_num_items_in_batch(counted, device)

    def get_train_dataloader(self) -> Any:
        """Make the loader of training rows; called by Trainer."""
        if "train_sampling_strategy" in self.settings:  # one of Trainer's own samplers
            return super().get_train_dataloader()
        return make_loader(
            self.train_dataset,
            self.args,
            batch_size=self._train_batch_size,
            collate=self.data_collator,
        )

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """Run a batch forward and backward, in as many parts as the token budget needs.

        Each part's loss is a share of the step's, by its number of items, so that gradients add up.
        Called by Trainer.
        """
        self.acceleration.before_step(model)
        steps_within = self.is_deepspeed_enabled or self.args.optim in ("lomo", "adalomo")
        # These step in each backward.
        budget = math.inf if steps_within else self.settings["token_budget"]
        *parts, last = split_batch(
            inputs, budget, self.context.task.collator, max_width=self.acceleration.max_width
        )
        loss = 0.0
        for part in parts:
            with self.accelerator.no_sync(model):  # processes may have different numbers of them
                loss += super().training_step(model, part, num_items_in_batch)
        return loss + super().training_step(model, last, num_items_in_batch)

    @cached_property
    def counted_parameters(self) -> int:
        """How many parameters take part in products; embeddings are looked up."""
        return int(self.model.num_parameters(exclude_embeddings=True))

    def floating_point_ops(self, inputs: Any) -> int:
        """Give Trainer's estimate for a batch, with parameters counted once; called by Trainer."""
        return 6 * inputs[self.model.main_input_name].numel() * self.counted_parameters

    def create_optimizer(self, *arguments: Any, **named: Any) -> Any:
        """Make the optimizer, with a learning rate of its own for each B; called by Trainer.

        Source: Hayou et al. 2024, arXiv 2402.12354, section 4 (LoRA+). PEFT's
        `create_loraplus_optimizer` gives the head's bias the rate of B too, and no weight decay.
        """
        is_new = self.optimizer is None
        super().create_optimizer(*arguments, **named)
        if is_new and self.lora_plus_ratio is not None:
            fast = {id(parameter) for parameter in lora_b_parameters(self.model)}
            if _scale_learning_rate(self.optimizer, fast, self.lora_plus_ratio) != len(fast):
                raise RecipeError(
                    f"lora.lora_plus_ratio: training.optim={self.args.optim} has learning rates of "
                    "its own; use adamw_torch"
                )
        return self.optimizer

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Evaluate on the validation rows; called by Trainer as its arguments say."""
        with self.acceleration.evaluation(), self._own_unit():
            evaluation = evaluate_model(
                self.model,
                self.context.data.validation,
                task=self.context.task,
                collate=self.plain_collate,
                max_rows=self.settings.get("per_device_eval_batch_size"),
                title="validation",
            )
        if self.context.data.can_select:
            evaluation = tune(evaluation, self.context.data.validation, self.context.task)
        metrics = {f"eval_{name}": value for name, value in evaluation.metrics.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        latest = list_evaluations(self.state.log_history)[-1]
        self.context.show(format_evaluation(latest, self.args.num_train_epochs))
        return metrics

    def _own_unit(self) -> AbstractContextManager[None]:
        """Let a regression predict numbers in their own unit while a block runs."""
        if self.scaling is None:
            return nullcontext()
        return self.scaling.folded(trained_output_layer(self.model))

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Compare an evaluation with the best before it; of equal ones, the lower loss is better.

        Called by Trainer.
        """
        before, best_step = self.state.best_metric, self.state.best_global_step
        if super()._determine_best_metric(metrics, trial):
            return True
        name = "eval_" + str(self.args.metric_for_best_model).removeprefix("eval_")
        if metrics[name] != before:
            return False
        losses = {
            entry["step"]: entry["eval_loss"]
            for entry in self.state.log_history
            if "eval_loss" in entry
        }
        if best_step not in losses or metrics["eval_loss"] >= losses[best_step]:
            return False
        self.state.best_global_step = self.state.global_step
        return True

    def log(self, logs: dict[str, float], *more: Any, **named: Any) -> None:
        """Record numbers; stop where the loss is not finite."""
        if self.scaling is not None and "loss" in logs:
            logs["loss"] *= self.scaling.scale**2  # in the unit of the validation loss
        for name in ("loss", "eval_loss"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise LoraTuneError(
                    f"training: {name} is {logs[name]} at step {self.state.global_step}: training "
                    "diverged; lower training.learning_rate or lora.alpha"
                )
        super().log(logs, *more, **named)


def _scale_learning_rate(optimizer: Any, chosen: set[int], ratio: float) -> int:
    """Multiply the learning rate of some parameters, by their id(); returns how many there are."""
    found = 0
    for group in list(optimizer.param_groups):
        parameters = [p for p in group["params"] if id(p) in chosen]
        found += len(parameters)
        if parameters:
            group["params"] = [p for p in group["params"] if id(p) not in chosen]
            optimizer.add_param_group(group | {"params": parameters, "lr": group["lr"] * ratio})
    return found


class QuietProgress(ProgressCallback):
    """Trainer's progress bar without its printed dicts."""

    def on_log(self, *_: Any, **__: Any) -> None:
        """Leave the numbers to `show`."""
