"""Evaluates LoRA layers with merged weights, W + s B A, as fast as the base model.

The base model's weights stay as they are; the merged weights exist only during an evaluation.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from lora_tune.fast.fused_lora import ADAPTER, can_fuse
from lora_tune.fast.patches import patched_forward, without_patch

MAX_BYTES = 2 * 1024**3  # of merged weights


@contextmanager
def merged_lora(model: nn.Module) -> Iterator[int]:
    """Let every LoRA layer that can be merged compute with its merged weight.

    For evaluation only: nothing is dropped out, and A and B get no gradient. The other layers
    compute as in PEFT, also those that `fused_lora` has patched; its patches return at the end.

    Yields:
        The number of merged layers; 0 if their weights would take more than MAX_BYTES.
    """
    layers: list[Any] = [module for module in model.modules() if can_fuse(module)]
    merged = [layer for layer in layers if _can_merge(layer)]
    if sum(layer.base_layer.weight.nbytes for layer in merged) > MAX_BYTES:
        merged = []
    with ExitStack() as patches:
        for layer in layers:
            patches.enter_context(without_patch(layer))
        for layer in merged:
            patches.enter_context(patched_forward(layer, _make_forward(layer)))
        yield len(merged)


def _can_merge(layer: Any) -> bool:
    """Whether the merged weight is in float32, so that it rounds no more than the layer does."""
    return bool(layer.base_layer.weight.dtype == torch.float32)


@torch.no_grad()
def _make_forward(layer: Any) -> Callable[..., Tensor]:
    """Make the forward of a linear layer with the merged weight.

    Source: Hu et al. 2021, arXiv 2106.09685, section 4.1.
    """
    base, original = layer.base_layer, layer.forward
    weight = base.weight.T if isinstance(base, Conv1D) else base.weight  # (out, in)
    a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    merged = torch.addmm(weight, b, a, alpha=layer.scaling[ADAPTER])

    def forward(x: Tensor, *arguments: Any, **named: Any) -> Tensor:
        if torch.is_autocast_enabled(x.device.type):
            # In 16 bits, rounding the sum could lose a small s B A.
            return original(x, *arguments, **named)
        return linear(x, merged, base.bias)

    return forward
