"""Computes a language model's loss in chunks, with logits only of the tokens that count.

The output layer computes a logit for each token of the vocabulary. The logits of a whole batch in
float32, with their gradients, often take more memory than everything else, and those of the
prompt's tokens do not even enter the loss.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear
from transformers import TrainingArguments

from lora_tune.data.batching import IGNORE_INDEX
from lora_tune.data.splits import Data
from lora_tune.fast.equivalence import (
    collate_rows,
    is_close,
    make_proof_rows,
    runs_on_one_device,
)
from lora_tune.fast.patches import is_patched, patched_forward

MAX_CPU_LOGITS = 1 << 24  # in a chunk; 64 MB in float32
MAX_GPU_LOGITS = 1 << 26  # larger, since each chunk reads the weights of the output layer again
PROOF_TOKENS = 16  # of each row
LARGE = 1 << 14  # a power of two: multiplying by it does not round


class ChunkedLoss(torch.autograd.Function):
    """The sum of the cross-entropies of the logits x W^T + b, with frozen W and b.

    The gradient of x is computed in the forward pass, while the logits of a chunk exist.

    Source: Hsu et al. 2024, arXiv 2410.10989 (fused linear cross-entropy).
    """

    @staticmethod
    def forward(
        context: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        smoothing: float,
    ) -> Tensor:
        """Compute the sum in float32, or in float64 if x is in float64.

        Args:
            context: keeps the gradient.
            x: (tokens, width).
            weight: W, (vocabulary, width), frozen, in the type of x.
            bias: b, (vocabulary,), frozen, in the type of x, or None.
            targets: token IDs, (tokens,).
            smoothing: label smoothing, from 0 to 1.
        """
        max_logits = MAX_CPU_LOGITS if x.device.type == "cpu" else MAX_GPU_LOGITS
        size = max(1, max_logits // len(weight))  # tokens in a chunk
        dtype = torch.promote_types(x.dtype, torch.float32)
        total, gradient = x.new_zeros((), dtype=dtype), torch.empty_like(x)
        with torch.autocast(x.device.type, enabled=False):
            for start in range(0, len(x), size):
                chunk = slice(start, start + size)
                with torch.enable_grad():
                    part = x[chunk].detach().requires_grad_()
                    logits = linear(part, weight, bias).to(dtype)
                    loss = cross_entropy(
                        logits, targets[chunk], reduction="sum", label_smoothing=smoothing
                    )
                (gradient[chunk],) = torch.autograd.grad(loss, part)
                total += loss.detach()
        context.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        """Scale the gradient of x by that of the sum."""
        (gradient,) = context.saved_tensors
        # In the wider type: the gradient of a mean over many tokens is small.
        scaled = gradient.to(gradients[0].dtype) * gradients[0]
        return scaled.to(gradient.dtype), None, None, None, None


def find_output_layer(
    model: Any, data: Data, *, arguments: TrainingArguments, collate: Callable[..., Any]
) -> nn.Linear | None:
    """Find a language model's output layer, and check on two rows that its outputs are the logits.

    A model may scale its logits: without the output layer it scales the states by the same factor.
    It must not cap them (softcapping), which very large states reveal.

    Returns:
        The layer; None if there is none, it is trained, or the model changes its outputs.
    """
    # With float16, Trainer scales the loss before its gradients are computed.
    if not runs_on_one_device(arguments) or arguments.mixed_precision == "fp16":
        return None
    layer = model.get_output_embeddings()
    if not _is_plain(layer):
        return None
    rows = [
        {name: values[:PROOF_TOKENS] for name, values in row.items()}
        for row in make_proof_rows(data)
    ]
    inputs = collate_rows(rows, collate, model=model)
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = inputs["input_ids"].clamp(max=len(layer.weight) - 1)
    was_training = model.training
    try:
        with torch.no_grad():
            expected = model.eval()(**inputs).logits
            with skipped_output_layer(layer):
                states = model(**inputs).logits
            with patched_forward(layer, lambda states: LARGE * states.float()):
                large = model(**inputs).logits
            logits = linear(states.to(layer.weight.dtype), layer.weight, layer.bias)
    except (RuntimeError, ValueError, TypeError, IndexError):  # the model needs its logits
        return None
    finally:
        model.train(was_training)
    if logits.shape != expected.shape or not is_close(logits, expected, dtype=model.dtype):
        return None
    return layer if is_close(large, LARGE * states.float(), dtype=model.dtype) else None


@contextmanager
def skipped_output_layer(layer: nn.Module | None) -> Iterator[None]:
    """Let an output layer return its inputs instead of logits; with None, change nothing."""
    with nullcontext() if layer is None else patched_forward(layer, lambda states: states):
        yield


def sum_losses(
    states: Tensor,
    targets: Tensor,
    *,
    layer: nn.Linear,
    cast: tuple[Tensor, Tensor | None] | None,
    dtype: torch.dtype,
    smoothing: float,
) -> Tensor:
    """Sum the cross-entropies of the tokens that count.

    Args:
        states: the inputs of the output layer, (rows, tokens, width).
        targets: token IDs, (rows, tokens); IGNORE_INDEX where a token does not count.
        layer: the output layer.
        cast: its weight and bias in `dtype`, if they exist.
        dtype: the type to compute logits in.
        smoothing: label smoothing, from 0 to 1.
    """
    weight, bias = cast or (layer.weight, layer.bias)
    counts = targets != IGNORE_INDEX
    total: Tensor = ChunkedLoss.apply(
        states[counts].to(dtype),
        weight.to(dtype),
        None if bias is None else bias.to(dtype),
        targets[counts],
        smoothing,
    )
    return total


def _is_plain(layer: Any) -> bool:
    """Whether it is a frozen linear layer whose weights no hook shards or offloads."""
    return (
        type(layer) is nn.Linear
        and not is_patched(layer)
        and type(layer.weight) is nn.Parameter
        and layer.weight.is_floating_point()
        and not (layer._forward_pre_hooks or layer._forward_hooks or hasattr(layer, "_hf_hook"))
        and not any(parameter.requires_grad for parameter in layer.parameters())
    )
