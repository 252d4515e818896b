"""A language model's loss, with logits of a few tokens at a time, and of judged tokens alone.

The last layer makes a number for each word that there is. For all tokens of a batch, in float32 and
with their gradients, these often take more memory than everything else; a prompt's are read by
nobody.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear
from transformers import TrainingArguments

from lora_tune.data import Data
from lora_tune.fast.proof import collate_rows, is_near, make_proof_rows, runs_alone
from lora_tune.tasks.task import IGNORED

AT_ONCE = 1 << 24  # logits; 64 MB in float32
ON_GPU = 1 << 26  # where few tokens at a time would wait for the weights to be read
PROOF_TOKENS = 16  # of each row
LARGE = 1 << 14  # a power of two, by which nothing is rounded


class ChunkedLoss(torch.autograd.Function):
    """Sum of the cross-entropies of x W' + b, with W and b frozen, ' for transposed.

    The gradient of x is computed on the way forth, while its logits are there.

    Source: Hsu et al. 2024, arXiv 2410.10989 (the fused linear cross-entropy).
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
        """Compute the sum, in float32 or, of float64, in float64.

        Args:
            context: keeps the gradient.
            x: (tokens, width).
            weight: W, (words, width), frozen, of the same type.
            bias: b, (words,), frozen, of the same type, or None.
            targets: the word of each token, (tokens,).
            smoothing: of the targets, from 0 to 1.
        """
        few = max(1, (AT_ONCE if x.device.type == "cpu" else ON_GPU) // len(weight))
        exact = torch.promote_types(x.dtype, torch.float32)
        total, gradient = x.new_zeros((), dtype=exact), torch.empty_like(x)
        starts = range(0, len(x), few)
        with torch.autocast(x.device.type, enabled=False):
            for some in (slice(start, start + few) for start in starts):
                with torch.enable_grad():
                    part = x[some].detach().requires_grad_()
                    logits = linear(part, weight, bias).to(exact)
                    loss = cross_entropy(
                        logits, targets[some], reduction="sum", label_smoothing=smoothing
                    )
                (gradient[some],) = torch.autograd.grad(loss, part)
                total += loss.detach()
        context.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        """Scale the gradient of x."""
        (gradient,) = context.saved_tensors
        scaled = gradient.to(gradients[0].dtype) * gradients[0]  # a share of many tokens is small
        return scaled.to(gradient.dtype), None, None, None, None


def find_output_layer(
    model: Any, data: Data, arguments: TrainingArguments, *, collate: Callable[..., Any]
) -> nn.Linear | None:
    """Find the last layer of a language model, and prove on two rows that logits are all it makes.

    A model may scale its logits, for it scales states as well; what caps them is told by states so
    large that a cap would show.

    Returns:
        None where there is no such layer, or it trains, or the model does more with its logits.
    """
    # Autocast to float16 wants the loss scaled before gradients are computed.
    if not runs_alone(arguments) or arguments.mixed_precision == "fp16":
        return None
    layer = model.get_output_embeddings()
    if not _is_plain(layer):
        return None
    rows = [
        {name: own[:PROOF_TOKENS] for name, own in row.items()} for row in make_proof_rows(data)
    ]
    inputs = collate_rows(rows, collate, model)
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = inputs["input_ids"].clamp(max=len(layer.weight) - 1)
    was_training = model.training
    try:
        with torch.no_grad():
            own = model.eval()(**inputs).logits
            with states_alone(layer):
                states = model(**inputs).logits
            with _forward_standing_in(layer, lambda states: LARGE * states.float()):
                large = model(**inputs).logits
            made = linear(states.to(layer.weight.dtype), layer.weight, layer.bias)
    except (RuntimeError, ValueError, TypeError, IndexError):  # of what expects a logit a word
        return None
    finally:
        model.train(was_training)
    if made.shape != own.shape or not is_near(made, own, model.dtype):
        return None
    return layer if is_near(large, LARGE * states.float(), model.dtype) else None


@contextmanager
def states_alone(layer: nn.Module | None) -> Iterator[None]:
    """Let a last layer hand on what it is given, in place of logits; None: as it is."""
    with nullcontext() if layer is None else _forward_standing_in(layer, lambda states: states):
        yield


@contextmanager
def _forward_standing_in(layer: nn.Module, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    own = vars(layer).get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward
        if own is not None:
            layer.forward = own


def sum_losses(
    states: Tensor,
    targets: Tensor,
    layer: nn.Linear,
    *,
    cast: tuple[Tensor, Tensor | None] | None,
    dtype: torch.dtype,
    smoothing: float,
) -> Tensor:
    """Sum the losses of judged tokens.

    Args:
        states: that the last layer is given, (rows, tokens, width).
        targets: the word of each, (rows, tokens); IGNORED where it is not judged.
        cast: the layer's weight and bias in that type, if there are.
        dtype: to compute logits in.
        smoothing: of the targets, from 0 to 1.
    """
    weight, bias = cast or (layer.weight, layer.bias)
    judged = targets != IGNORED
    total: Tensor = ChunkedLoss.apply(
        states[judged].to(dtype),
        weight.to(dtype),
        None if bias is None else bias.to(dtype),
        targets[judged],
        smoothing,
    )
    return total


def _is_plain(layer: Any) -> bool:
    """Whether it is a frozen linear layer whose weights are its own."""
    return (
        type(layer) is nn.Linear
        and "forward" not in vars(layer)
        and type(layer.weight) is nn.Parameter
        and layer.weight.is_floating_point()
        and not (layer._forward_pre_hooks or layer._forward_hooks or hasattr(layer, "_hf_hook"))
        and not any(parameter.requires_grad for parameter in layer.parameters())
    )
