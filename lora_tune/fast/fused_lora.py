"""LoRA layers that add their product in one pass, in place of PEFT's forward, while training.

PEFT's layer makes W x + b, then drops out, multiplies by A, by B, scales and adds: each a pass over
memory, and each kept for the way back. Here the product by A and B is added where W x was written,
the scale and b go into B, and x is cast and kept once for all layers that read it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lora_tune.fast.cast_weights import Casts
from lora_tune.fast.cpu_dropout import draw_kept

ADAPTER = "default"


class FusedLora(torch.autograd.Function):
    """y = x W' + b + s (m x) A' B', with A, B trained, W and b frozen, ' for transposed.

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
            context: keeps what the way back needs.
            x: (tokens, in), of the type to compute in.
            weight: W, (in, out), frozen, of the same type.
            bias: b, (out,), frozen, of the same type, or None.
            a: (rank, in).
            b: (out, rank).
            scale: s.
            dropout: the share of x that the adapter does not see, from 0 to below 1.
        """
        kept = draw_kept(x, dropout) if dropout else None
        scale = scale / (1 - dropout)
        narrow_a, scaled_b = a.to(x.dtype), (b * scale).to(x.dtype)
        low = (x if kept is None else x * kept) @ narrow_a.T  # (tokens, rank)
        y = x @ weight
        if bias is None:
            y.addmm_(low, scaled_b.T)
        else:  # a column of ones brings the bias along
            ones = torch.ones(len(x), 1, dtype=x.dtype, device=x.device)
            y.addmm_(torch.cat([low, ones], dim=1), torch.cat([scaled_b.T, bias[None]]))
        context.save_for_backward(x, weight, narrow_a, scaled_b, low, kept)
        context.scale, context.types = scale, (a.dtype, b.dtype)
        return y

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        """Compute the gradients of x, A and B from that of y, (tokens, out)."""
        x, weight, a, scaled_b, low, kept = context.saved_tensors
        (gradient,) = gradients
        back = gradient @ scaled_b  # (tokens, rank)
        of_a = back.T @ (x if kept is None else x * kept)
        of_b = (low.T @ gradient).T * context.scale
        of_x = None
        if context.needs_input_grad[0]:
            of_x = gradient @ weight.T
            if kept is None:
                of_x.addmm_(back, a)
            else:
                of_x.add_((back @ a).mul_(kept))
        return of_x, None, None, of_a.to(context.types[0]), of_b.to(context.types[1]), None, None


@contextmanager
def fused_lora(model: nn.Module, casts: Casts | None = None) -> Iterator[int]:
    """Swap the forward of every LoRA layer that can be fused, and give PEFT's back at the end.

    Args:
        casts: of frozen weights and biases, to compute with under autocast.

    Yields:
        How many there are.
    """
    layers = [module for module in model.modules() if can_fuse(module)]
    cast_once = LastCast()
    begin = model.register_forward_pre_hook(cast_once.open)
    end = model.register_forward_hook(cast_once.close, always_call=True)
    for layer in layers:
        layer.forward = _make_forward(layer, casts or {}, cast_once)
    try:
        yield len(layers)
    finally:
        begin.remove()
        end.remove()
        for layer in layers:
            del layer.forward


def can_fuse(module: nn.Module) -> bool:
    """Whether a layer is plain LoRA on a frozen linear layer, and does nothing more.

    What shards or offloads weights does so in hooks on the base layer, which a fused layer passes.
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
    """A tensor's cast, kept until another comes: q, k and v read the same states one by one.

    Their gradients add up in the type of the cast. Nothing is kept beyond the model's forward, nor
    in what checkpointing runs again on the way back.
    """

    def __init__(self) -> None:
        self.is_open = False
        self.made: tuple[Tensor, tuple[int, torch.dtype, bool], Tensor] | None = None

    def open(self, *_: Any) -> None:
        """Begin to keep casts; a forward pre-hook of the model."""
        self.is_open = True

    def close(self, *_: Any) -> None:
        """Let go of what is kept; a forward hook of the model."""
        self.is_open, self.made = False, None

    def __call__(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Cast x, (tokens, in), or give what it was cast to just before."""
        # Tensors of inference mode do not tell whether they were changed in place.
        if not self.is_open or x.is_inference() or torch.compiler.is_compiling():
            return x.to(dtype)
        state = (x._version, dtype, torch.is_grad_enabled())
        if self.made is None or self.made[0] is not x or self.made[1] != state:
            self.made = x, state, x.to(dtype)
        return self.made[2]


def _make_forward(layer: Any, casts: Casts, cast_once: LastCast) -> Callable[..., Tensor]:
    base, drop = layer.base_layer, layer.lora_dropout[ADAPTER]

    def forward(x: Tensor, *_: Any, **__: Any) -> Tensor:
        device = x.device.type
        is_mixed = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if is_mixed else base.weight.dtype
        own = (base.weight, base.bias)
        weight, bias = casts.get(base, own) if is_mixed else own
        weight = weight if isinstance(base, Conv1D) else weight.T
        with torch.autocast(device, enabled=False):
            y = FusedLora.apply(
                cast_once(x, dtype).reshape(-1, x.shape[-1]),
                weight.to(dtype),
                None if bias is None else bias.to(dtype),
                layer.lora_A[ADAPTER].weight,
                layer.lora_B[ADAPTER].weight,
                layer.scaling[ADAPTER],
                drop.p if isinstance(drop, nn.Dropout) and layer.training else 0.0,
            )
        return y.view(*x.shape[:-1], -1)

    return forward
