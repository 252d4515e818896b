"""Dropout on a CPU from an eighth of the random numbers, or fewer.

torch takes a number for each element, on many processors one after another: in a model that drops
out, that is most of the time (benchmarks/results/parts.md). Here each 64-bit number serves eight
elements.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

FEW = 1 / 16  # of dropout, below which what is dropped is drawn alone
LEVELS = 256  # of the numbers that are compared, a byte each
TOKENS_NDIM = 3  # (rows, tokens, width)


def draw_kept(x: Tensor, dropout: float) -> Tensor:
    """Draw what a dropout leaves: 1 with probability 1 - dropout, else 0; of x's shape and type.

    A byte is below a limit with a probability in steps of 1/256. So each row of x draws one of the
    two limits around the share that is left, such that their mean is exact; for two elements of a
    row, that adds at most 1/512^2 to the probability that both are dropped. Where few are dropped,
    they are drawn alone, and without that.
    """
    if x.device.type != "cpu":
        return torch.empty_like(x).bernoulli_(1 - dropout)
    if dropout < FEW:
        kept = torch.ones_like(x, memory_format=torch.contiguous_format)
        kept.view(-1)[draw_places(x.numel(), dropout)] = 0
        return kept
    numbers = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    kept = numbers.view(torch.uint8)[: x.numel()].view(x.shape).to(x.dtype)
    limits = torch.rand(*x.shape[:-1], 1).add_((1 - dropout) * LEVELS).floor_().to(x.dtype)
    return torch.lt(kept, limits, out=kept)


def draw_places(count: int, share: float) -> Tensor:
    """Draw each of the places from 0 to count - 1 with a probability, apart from the others.

    From one that is drawn to the next it is as far as to a Bernoulli process's next success.

    Returns:
        The places in order, int64.
    """
    expected = count * share
    some = int(expected + 8 * expected**0.5) + 16  # 8 standard deviations on: enough
    places = torch.empty(some, dtype=torch.int64).geometric_(share).cumsum(0) - 1
    return places[places < count]


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
