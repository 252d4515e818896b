"""Applies the speed-ups of a training in their order: the only entry point of fast/."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from lora_tune.data.batching import WIDTH_MULTIPLE
from lora_tune.data.splits import Data
from lora_tune.fast.bfloat16_weights import Casts, cast_weights, patched_with_casts
from lora_tune.fast.chunked_loss import find_output_layer, skipped_output_layer, sum_losses
from lora_tune.fast.cpu_attention import product_attention
from lora_tune.fast.cpu_dropout import cpu_dropout
from lora_tune.fast.first_token import find_top_layer, first_token
from lora_tune.fast.frozen_trunk import frozen_trunk
from lora_tune.fast.fused_lora import fused_lora
from lora_tune.fast.merged_lora import merged_lora
from lora_tune.tasks import Task

if TYPE_CHECKING:
    from torch.nn import Linear


def accelerated(
    model: nn.Module,
    data: Data,
    *,
    arguments: TrainingArguments,
    task: Task,
    collate: Callable[..., Any],
    enabled: bool,
) -> "Acceleration":
    """Choose the speed-ups of one training, before Trainer wraps the model.

    Args:
        collate: pads rows to a batch for the model.
        enabled: `training.fast`; without it, nothing is patched.

    Returns:
        The speed-ups, whose `collate` Trainer should use.
    """
    on_cpu = next(model.parameters()).device.type == "cpu"
    casts: Casts = {}
    max_width, training_collate = None, collate
    if enabled and on_cpu and (arguments.bf16 or model.dtype == torch.bfloat16):
        casts = cast_weights(model, torch.bfloat16) if arguments.bf16 else {}
        max_width, training_collate = _pad_to_few_widths(collate)
    return Acceleration(
        model=model,
        data=data,
        arguments=arguments,
        task=task,
        collate=training_collate,
        check_collate=collate,
        enabled=enabled,
        casts=casts,
        max_width=max_width,
    )


@dataclass
class Acceleration:
    """The speed-ups of one training, applied in three stages and undone when its block ends.

    1. When the block starts, on the unwrapped model: `chunked_loss`, `frozen_trunk` and
       `first_token`, which run the model on two rows to check that they do not change its results.
    2. Before the first step, when Trainer has wrapped the model and libraries that shard or offload
       weights have added their hooks: `fused_lora`, `bfloat16_weights`, `cpu_attention` and
       `cpu_dropout`.
    3. During each evaluation: `merged_lora`.
    """

    model: nn.Module
    data: Data
    arguments: TrainingArguments
    task: Task
    collate: Callable[..., Any]  # pads batches to few widths, if each width costs time
    check_collate: Callable[..., Any]  # pads to the longest row, for the checks on two rows
    enabled: bool
    casts: Casts  # of frozen weights
    max_width: int | None  # in tokens; batches up to it have few widths; None: any width
    output_layer: "Linear | None" = None  # whose logits `loss` computes in chunks
    _patches: ExitStack = field(default_factory=ExitStack)
    _is_stepping: bool = False

    @contextmanager
    def applied(self, *, is_sharded: bool) -> Iterator[None]:
        """Apply the speed-ups while a block trains the model.

        Args:
            is_sharded: whether DeepSpeed or FSDP distributes the weights over processes.
        """
        model, data, patches = self.model, self.data, self._patches
        options: dict[str, Any] = {"arguments": self.arguments, "collate": self.check_collate}
        try:
            with patches:
                if self.enabled:
                    if not is_sharded and self.task.generation is not None:
                        self.output_layer = find_output_layer(model, data, **options)
                    # Before the trunk is patched, which may include the top layer.
                    top_layer = find_top_layer(model, data, task=self.task, **options)
                    patches.enter_context(frozen_trunk(model, data, task=self.task, **options))
                    patches.enter_context(first_token(top_layer))
                yield
        finally:
            self.casts.clear()  # Trainer is part of a reference cycle, so it is freed late
            self.output_layer, self._is_stepping = None, False

    def before_step(self, wrapped: nn.Module) -> None:
        """Apply the speed-ups of the second stage before the first step.

        Args:
            wrapped: the model as Trainer has wrapped it.
        """
        if not self.enabled or self._is_stepping:
            return
        self._is_stepping = True
        self._patches.enter_context(fused_lora(wrapped, self.casts))
        self._patches.enter_context(patched_with_casts(self.casts))
        self._patches.enter_context(product_attention())
        self._patches.enter_context(cpu_dropout(wrapped))

    def forward_of_loss(self) -> AbstractContextManager[None]:
        """Skip the output layer in a forward pass, if `loss` computes its logits."""
        return skipped_output_layer(self.output_layer)

    def loss(self, states: Tensor, labels: Tensor, *, items: Any, smoothing: float) -> Tensor:
        """Compute a micro-batch's part of its step's mean loss from the output layer's inputs.

        Args:
            states: the output layer's inputs, (rows, tokens, width).
            labels: (rows, tokens).
            items: the number of labels of the whole step that count.
            smoothing: label smoothing, from 0 to 1.
        """
        assert self.output_layer is not None
        assert self.task.generation is not None
        states, targets = self.task.generation.align_labels(states, labels)
        is_mixed = self.arguments.mixed_precision == "bf16"
        total = sum_losses(
            states,
            targets,
            layer=self.output_layer,
            cast=self.casts.get(self.output_layer),
            dtype=torch.bfloat16 if is_mixed else self.output_layer.weight.dtype,
            smoothing=smoothing,
        )
        return total / items

    def evaluation(self) -> AbstractContextManager[Any]:
        """Use merged weights while the model is evaluated."""
        is_mixed = self.arguments.bf16 or self.arguments.fp16  # would round the merged weights
        return merged_for_evaluation(self.model, enabled=self.enabled and not is_mixed)


def merged_for_evaluation(model: nn.Module, *, enabled: bool) -> AbstractContextManager[Any]:
    """Use merged weights, W + s B A, while a block evaluates the model."""
    return merged_lora(model) if enabled else nullcontext()


def _pad_to_few_widths(collate: Any) -> tuple[int | None, Callable[..., Any]]:
    """Pad batches to few widths, if padding changes no result.

    In bfloat16 on a CPU, torch compiles each matrix product for each width and caches the last
    1,024 of them.

    Source: oneDNN's developer guide, "Primitive Cache".

    Returns:
        The width in tokens up to which batches have few widths, None for any width; and the
        collator.
    """
    tokenizer = collate.tokenizer
    # Padding on the left would shift positions, and without a mask tokens attend to padding.
    if tokenizer.padding_side == "right" and "attention_mask" in tokenizer.model_input_names:
        return tokenizer.model_max_length, replace(collate, pad_to_multiple_of=WIDTH_MULTIPLE)
    return None, collate
