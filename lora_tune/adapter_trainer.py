"""transformers.Trainer with lora_tune's batches, loss, evaluation and faster layers."""

import math
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from transformers import Trainer, TrainerControl, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from lora_tune.adapter import factor_b
from lora_tune.batching import MULTIPLE, split_batch
from lora_tune.data import Data
from lora_tune.errors import LoraTuneError, RecipeError
from lora_tune.evaluation import evaluate_model
from lora_tune.fast.cast_weights import Casts, casts_standing_in
from lora_tune.fast.chunked_loss import states_alone, sum_losses
from lora_tune.fast.cpu_attention import product_attention
from lora_tune.fast.cpu_dropout import cpu_dropout
from lora_tune.fast.fused_lora import fused_lora
from lora_tune.fast.merged_lora import merged_lora
from lora_tune.history import list_evaluations, tell_evaluation
from lora_tune.loading import make_loader
from lora_tune.tasks import Task
from lora_tune.tasks.task import IGNORED
from lora_tune.tasks.writing_task import WritingTask

if TYPE_CHECKING:
    from peft import PeftModel
    from torch.nn import Linear


class AdapterTrainer(Trainer):
    """A Trainer that evaluates as the rest of lora_tune does: sorted by length, same metrics."""

    control: TrainerControl
    lora_plus_ratio: float | None = None
    is_fast: bool  # whether what is in lora_tune/fast stands in while it trains
    token_budget: int  # most tokens of a forward pass in training
    has_own_batches: bool  # or else those of Trainer's own samplers
    most_evaluated: int | None  # rows at once; None: as many as their tokens allow
    most_width: int | None = None  # up to which batches take few widths; None: they take any
    output_layer: "Linear | None" = None  # whose logits the loss makes itself, a few at a time

    def __init__(
        self,
        model: "PeftModel",
        arguments: TrainingArguments,
        *,
        data: Data,
        task: Task,
        collate: Callable[..., Any],
        show: Callable[[str], None],
    ) -> None:
        self.validation = data.validation
        self.weights = None if data.class_weights is None else torch.tensor(data.class_weights)
        self.task = task
        self.show = show
        self.collate = collate
        self.casts: Casts = {}  # of frozen weights, while it trains
        self.standing_in = ExitStack()  # layers of lora_tune/fast, while it trains
        self.is_begun = False
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=data.train.encoded,
            eval_dataset=data.validation.encoded,
            data_collator=collate,
            # A model's own loss is a mean over each micro-batch; Trainer would not scale it for
            # gradient accumulation, since forward takes **kwargs.
            compute_loss_func=self.step_loss,
        )
        for callback in (ProgressCallback, PrinterCallback):
            self.remove_callback(callback)  # they print Python dicts
        if not arguments.disable_tqdm:
            self.add_callback(QuietProgress())

    def take_few_widths(self, collate: Any) -> None:
        """Train on batches of few widths, where a base tells padding apart.

        In bfloat16 on a CPU, torch compiles each product anew for each width, and keeps the last
        1,024.

        Source: oneDNN's developer guide, "Primitive Cache".
        """
        tokenizer = collate.tokenizer
        # Positions that count padding would move; what has no mask would see it.
        if tokenizer.padding_side == "right" and "attention_mask" in tokenizer.model_input_names:
            self.most_width = tokenizer.model_max_length
            self.data_collator = replace(collate, pad_to_multiple_of=MULTIPLE)

    def compute_loss(self, model: Any, *inputs: Any, **named: Any) -> Any:
        """Run a micro-batch and compute its share of its step's loss; called by Trainer."""
        with states_alone(self.output_layer):
            return super().compute_loss(model, *inputs, **named)

    def step_loss(self, outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        """Compute a micro-batch's share of its step's loss; called by Trainer."""
        # What carries no label is -100, as in transformers.
        items = (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        smoothing = self.args.label_smoothing_factor
        if self.output_layer is not None:
            assert isinstance(self.task, WritingTask)
            states, targets = self.task.foretold(outputs.logits, labels)
            is_mixed = self.args.mixed_precision == "bf16"
            dtype = torch.bfloat16 if is_mixed else self.output_layer.weight.dtype
            cast = self.casts.get(self.output_layer)
            total = sum_losses(
                states, targets, self.output_layer, cast=cast, dtype=dtype, smoothing=smoothing
            )
            return total / items
        return self.task.loss(
            outputs.logits,
            labels,
            items=items,
            smoothing=smoothing,
            weights=None if self.weights is None else self.weights.to(outputs.logits.device),
        )

    def get_train_dataloader(self) -> Any:
        """Make the loader of training rows; called by Trainer."""
        if not self.has_own_batches:
            return super().get_train_dataloader()
        return make_loader(
            self.train_dataset,
            self.args,
            batch_size=self._train_batch_size,
            collate=self.data_collator,
        )

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """Run a batch there and back, in as many parts as the budget asks for; called by Trainer.

        Each one's loss is a share of the step's, by its number of items, so that gradients add up.
        """
        # Only now has what shards or offloads weights put its hooks on them.
        if self.is_fast and not self.is_begun:
            self.is_begun = True
            self.standing_in.enter_context(fused_lora(model, self.casts))
            self.standing_in.enter_context(casts_standing_in(self.casts))
            self.standing_in.enter_context(product_attention())
            self.standing_in.enter_context(cpu_dropout(model))
        steps_within = self.is_deepspeed_enabled or self.args.optim in ("lomo", "adalomo")
        # These step in each backward.
        budget = math.inf if steps_within else self.token_budget
        *parts, last = split_batch(inputs, budget, self.task, most_width=self.most_width)
        loss = 0.0
        for part in parts:
            with self.accelerator.no_sync(model):  # processes may have unlike numbers of them
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
            fast = {id(parameter) for parameter in factor_b(self.model)}
            if _speed_up(self.optimizer, fast, self.lora_plus_ratio) != len(fast):
                raise RecipeError(
                    f"lora.lora_plus_ratio: training.optim={self.args.optim} has rates of its own; "
                    "use adamw_torch"
                )
        return self.optimizer

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Evaluate on the validation rows; called by Trainer as its arguments say."""
        is_mixed = self.args.bf16 or self.args.fp16  # then merged weights would be rounded
        with merged_lora(self.model) if self.is_fast and not is_mixed else nullcontext():
            evaluation = evaluate_model(
                self.model,
                self.validation,
                task=self.task,
                collate=self.collate,
                most_rows=self.most_evaluated,
                title="validation",
            )
        metrics = {f"eval_{name}": value for name, value in evaluation.metrics.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        latest = list_evaluations(self.state.log_history)[-1]
        self.show(tell_evaluation(latest, self.args.num_train_epochs))
        return metrics

    def log(self, logs: dict[str, float], *more: Any, **named: Any) -> None:
        """Record numbers; stop where the loss is none."""
        for name in ("loss", "eval_loss"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise LoraTuneError(
                    f"training: {name} is {logs[name]} at step {self.state.global_step}: it "
                    "diverged; lower training.learning_rate or lora.alpha"
                )
        super().log(logs, *more, **named)


def _speed_up(optimizer: Any, fast: set[int], ratio: float) -> int:
    """Multiply the learning rate of some parameters, by their id(); returns how many there are."""
    found = 0
    for group in list(optimizer.param_groups):
        parameters = [p for p in group["params"] if id(p) in fast]
        found += len(parameters)
        if parameters:
            group["params"] = [p for p in group["params"] if id(p) not in fast]
            optimizer.add_param_group(group | {"params": parameters, "lr": group["lr"] * ratio})
    return found


class QuietProgress(ProgressCallback):
    """Trainer's progress bar without its printed dicts."""

    def on_log(self, *_: Any, **__: Any) -> None:
        """Leave the numbers to `show`."""
