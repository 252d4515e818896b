"""Fuses the operations of PEFT's LoRA layers during training, to use less memory bandwidth.

PEFT's layer computes W x + b, then drops out, multiplies by A and by B, scales and adds. Each
operation writes a tensor, which is kept for the backward pass. Here the product with A and B is
added to W x in place, B includes the scaling and the bias, and x is cast and kept once for all
layers that read it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lora_tune.fast.bfloat16_weights import Casts
from lora_tune.fast.cpu_dropout import draw_keep_mask
from lora_tune.fast.patches import forward_hook, forward_pre_hook, patched_forward

ADAPTER = "default"  # PEFT's name of the adapter


class FusedLora(torch.autograd.Function):
    """y = x W^T + b + s (m x) A^T B^T, with trained A and B, frozen W and b, dropout mask m.

    Source: Hu et al. 2021, arXiv 2106.09685, section 4.1; the gradients by the product rule.
    """

    @staticmethod
    def forward(
        context: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        scale: float,
        dropout: float,
    ) -> Tensor:
        """Compute y, (tokens, out).

        Args:
            context: keeps what the backward pass needs.
            x: (tokens, in), in the type to compute in.
            weight: W^T, (in, out), frozen, in the type of x.
            bias: b, (out,), frozen, in the type of x, or None.
            a: A, (rank, in).
            b: B, (out, rank).
            scale: s.
            dropout: the probability that an input of the adapter is dropped, from 0 to below 1.
        """
        kept = draw_keep_mask(x, dropout) if dropout else None
        scale = scale / (1 - dropout)
        cast_a, scaled_b = a.to(x.dtype), (b * scale).to(x.dtype)
        low = (x if kept is None else x * kept) @ cast_a.T  # (tokens, rank)
        y = x @ weight
        if bias is None:
            y.addmm_(low, scaled_b.T)
        else:  # a column of ones adds the bias in the same product
            ones = torch.ones(len(x), 1, dtype=x.dtype, device=x.device)
            y.addmm_(torch.cat([low, ones], dim=1), torch.cat([scaled_b.T, bias[None]]))
        context.save_for_backward(x, weight, cast_a, scaled_b, low, kept)
        context.scale, context.types = scale, (a.dtype, b.dtype)
        return y

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        """Compute the gradients of x, A and B from that of y, (tokens, out)."""
        x, weight, a, scaled_b, low, kept = context.saved_tensors
        (gradient,) = gradients
        of_low = gradient @ scaled_b  # (tokens, rank)
        of_a = of_low.T @ (x if kept is None else x * kept)
        of_b = (low.T @ gradient).T * context.scale
        of_x = None
        if context.needs_input_grad[0]:
            of_x = gradient @ weight.T
            if kept is None:
                of_x.addmm_(of_low, a)
            else:
                of_x.add_((of_low @ a).mul_(kept))
        return of_x, None, None, of_a.to(context.types[0]), of_b.to(context.types[1]), None, None


@contextmanager
def fused_lora(model: nn.Module, casts: Casts | None = None) -> Iterator[int]:
    """Replace the forward of every LoRA layer that can be fused; at the end, restore PEFT's.

    Args:
        casts: of frozen weights and biases, to compute with under autocast.

    Yields:
        The number of fused layers.
    """
    layers = [module for module in model.modules() if can_fuse(module)]
    last_cast = LastCast()
    with ExitStack() as patches:
        patches.enter_context(forward_pre_hook(model, last_cast.open))
        patches.enter_context(forward_hook(model, last_cast.close))
        for layer in layers:
            forward = _make_forward(layer, casts=casts or {}, last_cast=last_cast)
            patches.enter_context(patched_forward(layer, forward))
        yield len(layers)


def can_fuse(module: nn.Module) -> bool:
    """Whether a layer is plain LoRA on a frozen linear layer, with nothing added.

    Libraries that shard or offload weights do so in hooks of the base layer, which a fused layer
    would not call.
    """
    if type(module) is not LoraLinear or module.merged or module.disable_adapters:
        return False
    base = module.base_layer
    return (
        type(base) in (nn.Linear, Conv1D)
        and type(base.weight) is nn.Parameter
        and not (base._forward_pre_hooks or base._forward_hooks or hasattr(base, "_hf_hook"))
        and list(module.lora_A) == module.active_adapters == [ADAPTER]
        and not module.lora_variant
        and module.lora_B[ADAPTER].bias is None
        and not any(parameter.requires_grad for parameter in base.parameters())
    )


class LastCast:
    """The last cast of a tensor, for layers in a row that read the same one, as q, k and v do.

    Their gradients are summed in the type of the cast. The cast is released when the model's
    forward ends, and nothing is kept while checkpointing runs layers again in the backward pass.
    """

    def __init__(self) -> None:
        self.is_open = False
        # The tensor, what its cast depends on, and its cast.
        self.last: tuple[Tensor, tuple[int, torch.dtype, bool], Tensor] | None = None

    def open(self, *_: Any) -> None:
        """Start to keep casts; a forward pre-hook of the model."""
        self.is_open = True

    def close(self, *_: Any) -> None:
        """Release the cast and keep no more; a forward hook of the model."""
        self.is_open, self.last = False, None

    def __call__(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Cast x, (tokens, in), or return its last cast."""
        # Tensors of inference mode have no version, which counts changes in place.
        if not self.is_open or x.is_inference() or torch.compiler.is_compiling():
            return x.to(dtype)
        state = (x._version, dtype, torch.is_grad_enabled())
        if self.last is None or self.last[0] is not x or self.last[1] != state:
            self.last = x, state, x.to(dtype)
        return self.last[2]


def _make_forward(layer: Any, *, casts: Casts, last_cast: LastCast) -> Callable[..., Tensor]:
    base, drop = layer.base_layer, layer.lora_dropout[ADAPTER]

    def forward(x: Tensor, *_: Any, **__: Any) -> Tensor:
        device = x.device.type
        is_mixed = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if is_mixed else base.weight.dtype
        uncast = (base.weight, base.bias)
        weight, bias = casts.get(base, uncast) if is_mixed else uncast
        weight = weight if isinstance(base, Conv1D) else weight.T
        with torch.autocast(device, enabled=False):
            y = FusedLora.apply(
                last_cast(x, dtype).reshape(-1, x.shape[-1]),
                weight.to(dtype),
                None if bias is None else bias.to(dtype),
                layer.lora_A[ADAPTER].weight,
                layer.lora_B[ADAPTER].weight,
                layer.scaling[ADAPTER],
                drop.p if isinstance(drop, nn.Dropout) and layer.training else 0.0,
            )
        return y.view(*x.shape[:-1], -1)

    return forward
