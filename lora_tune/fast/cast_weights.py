"""Frozen weights in the type that autocast computes in, cast once for all of training.

Autocast keeps no cast of a weight that needs no gradient: it makes it anew in every forward.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

MOST_BYTES = 2 * 1024**3  # of casts, which lie beside the weights

# By frozen layer: its weight and bias.
Casts = dict[nn.Module, tuple[Tensor, Tensor | None]]


def cast_weights(model: nn.Module, dtype: torch.dtype) -> Casts:
    """Cast the weight and bias of every frozen linear layer.

    Returns:
        Nothing where they would take too much memory.
    """
    frozen = [
        layer
        for name, layer in model.named_modules()
        if _is_plain(layer) and "original_module" not in name.split(".")  # which PEFT never runs
    ]
    if sum(p.numel() for layer in frozen for p in layer.parameters()) * dtype.itemsize > MOST_BYTES:
        return {}
    return {
        layer: (
            layer.weight.detach().to(dtype),
            None if layer.bias is None else layer.bias.detach().to(dtype),
        )
        for layer in frozen
    }


@contextmanager
def casts_standing_in(casts: Casts) -> Iterator[None]:
    """Let layers compute with their casts under autocast; as they are without it."""
    for layer, (weight, bias) in casts.items():
        layer.forward = _make_forward(layer, weight, bias)
    try:
        yield
    finally:
        for layer in casts:
            del layer.forward


def _is_plain(layer: Any) -> bool:
    """Whether it is a frozen linear layer, whose weights no hook shards or offloads."""
    return (
        type(layer) in (nn.Linear, Conv1D)
        and "forward" not in vars(layer)
        and type(layer.weight) is nn.Parameter
        and not (layer._forward_pre_hooks or layer._forward_hooks or hasattr(layer, "_hf_hook"))
        and all(p.dtype == torch.float32 and not p.requires_grad for p in layer.parameters())
    )


def _make_forward(layer: Any, weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    own = layer.forward
    weight = weight.T if isinstance(layer, Conv1D) else weight  # (out, in)

    def forward(x: Tensor) -> Tensor:
        device = x.device.type
        if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == weight.dtype:
            return linear(x, weight, bias)
        result: Tensor = own(x)
        return result

    return forward
