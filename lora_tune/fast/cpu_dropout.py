"""Dropout on a CPU from an eighth of the random numbers.

A CPU's generator makes one number after another, and torch takes one for each element: in a model
that drops out, that is most of the time. Here each 64-bit number serves eight elements.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

LEVELS = 256  # of the numbers that are compared, a byte each
TOKENS_NDIM = 3  # (rows, tokens, width)


def draw_kept(x: Tensor, dropout: float) -> Tensor:
    """Draw what a dropout leaves: 1 with probability 1 - dropout, else 0; of x's shape and type.

    A byte is below a limit with a probability in steps of 1/256. So each row of x draws one of the
    two limits around the share that is left, such that their mean is exact; within a row, elements
    are apart but for that.
    """
    if x.device.type != "cpu":
        return torch.empty_like(x).bernoulli_(1 - dropout)
    numbers = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    kept = numbers.view(torch.uint8)[: x.numel()].view(x.shape).to(x.dtype)
    limits = torch.rand(*x.shape[:-1], 1).add_((1 - dropout) * LEVELS).floor_().to(x.dtype)
    return torch.lt(kept, limits, out=kept)


@contextmanager
def cpu_dropout(model: nn.Module) -> Iterator[int]:
    """Let the dropout layers of a model draw so while it trains on a CPU.

    Yields:
        How many there are.
    """
    layers = [layer for layer in model.modules() if _drops_out(layer)]
    for layer in layers:
        layer.forward = _make_forward(layer)
    try:
        yield len(layers)
    finally:
        for layer in layers:
            del layer.forward


def _drops_out(layer: Any) -> bool:
    return type(layer) is nn.Dropout and 0 < layer.p < 1 and "forward" not in vars(layer)


def _make_forward(layer: Any) -> Callable[[Tensor], Tensor]:
    own = layer.forward

    def forward(x: Tensor) -> Tensor:
        # A classifier's own, of one state for each row, costs nothing, and draws as it would.
        if not layer.training or x.device.type != "cpu" or x.ndim < TOKENS_NDIM:
            result: Tensor = own(x)
            return result
        return x * draw_kept(x, layer.p).mul_(1 / (1 - layer.p))

    return forward
