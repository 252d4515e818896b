"""LoRA layers that answer by merged weights, W + s B A, at the base's own speed, for evaluation.

The base's weights stay as they are: what is merged lies beside them for as long as it is needed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from lora_tune.fast.fused_lora import ADAPTER, can_fuse

MOST_BYTES = 2 * 1024**3  # of merged weights


@contextmanager
def merged_lora(model: nn.Module) -> Iterator[int]:
    """Swap the forward of every LoRA layer that can be merged; the others answer by PEFT's own.

    For evaluation alone: nothing is dropped out, and A and B get no gradient. In training, fused
    layers are back at the end.

    Yields:
        How many are merged; 0 where they would take too much memory.
    """
    layers: list[Any] = [module for module in model.modules() if can_fuse(module)]
    merged = [layer for layer in layers if _can_merge(layer)]
    if sum(layer.base_layer.weight.nbytes for layer in merged) > MOST_BYTES:
        merged = []
    fused = [(layer, vars(layer).pop("forward", None)) for layer in layers]
    try:
        for layer in merged:
            layer.forward = _make_forward(layer)
        yield len(merged)
    finally:
        for layer, own in fused:
            vars(layer).pop("forward", None)
            if own is not None:
                layer.forward = own


def _can_merge(layer: Any) -> bool:
    """Whether merging rounds no more than the layer itself does."""
    return bool(layer.base_layer.weight.dtype == torch.float32)


@torch.no_grad()
def _make_forward(layer: Any) -> Callable[..., Tensor]:
    """Make a linear layer's forward of a LoRA layer's.

    Source: Hu et al. 2021, arXiv 2106.09685, section 4.1.
    """
    base, own = layer.base_layer, layer.forward
    weight = base.weight.T if isinstance(base, Conv1D) else base.weight  # (out, in)
    a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    merged = torch.addmm(weight, b, a, alpha=layer.scaling[ADAPTER])

    def forward(x: Tensor, *arguments: Any, **named: Any) -> Tensor:
        if torch.is_autocast_enabled(x.device.type):
            # In fewer bits, W would round away what a small B A adds to it.
            return own(x, *arguments, **named)
        return linear(x, merged, base.bias)

    return forward
