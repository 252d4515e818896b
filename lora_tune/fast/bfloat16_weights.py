"""Casts frozen weights to the type of autocast once, instead of in every forward pass.

Autocast caches casts only of weights that need a gradient.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from lora_tune.fast.patches import is_patched, patched_forward

MAX_BYTES = 2 * 1024**3  # of casts, which are kept in addition to the weights

# For each frozen layer, the casts of its weight and bias.
Casts = dict[nn.Module, tuple[Tensor, Tensor | None]]


def cast_weights(model: nn.Module, dtype: torch.dtype) -> Casts:
    """Cast the weight and bias of every frozen linear layer.

    Returns:
        The casts; empty if they would take more than MAX_BYTES.
    """
    frozen = [
        layer
        for name, layer in model.named_modules()
        # PEFT never runs the original of a module that is trained in full.
        if _is_plain(layer) and "original_module" not in name.split(".")
    ]
    if sum(p.numel() for layer in frozen for p in layer.parameters()) * dtype.itemsize > MAX_BYTES:
        return {}
    return {
        layer: (
            layer.weight.detach().to(dtype),
            None if layer.bias is None else layer.bias.detach().to(dtype),
        )
        for layer in frozen
    }


@contextmanager
def patched_with_casts(casts: Casts) -> Iterator[None]:
    """Let layers compute with their casts under autocast, and as before without autocast."""
    with ExitStack() as patches:
        for layer, (weight, bias) in casts.items():
            forward = _make_forward(layer, weight=weight, bias=bias)
            patches.enter_context(patched_forward(layer, forward))
        yield


def _is_plain(layer: Any) -> bool:
    """Whether it is a frozen linear layer in float32 whose weights no hook shards or offloads."""
    return (
        type(layer) in (nn.Linear, Conv1D)
        and not is_patched(layer)
        and type(layer.weight) is nn.Parameter
        and not (layer._forward_pre_hooks or layer._forward_hooks or hasattr(layer, "_hf_hook"))
        and all(p.dtype == torch.float32 and not p.requires_grad for p in layer.parameters())
    )


def _make_forward(layer: Any, *, weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    original = layer.forward
    weight = weight.T if isinstance(layer, Conv1D) else weight  # (out, in)

    def forward(x: Tensor) -> Tensor:
        device = x.device.type
        if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == weight.dtype:
            return linear(x, weight, bias)
        result: Tensor = original(x)
        return result

    return forward
