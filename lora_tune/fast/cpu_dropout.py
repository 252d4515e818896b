"""Draws dropout masks on a CPU from one random byte for each element, or fewer.

torch draws one random number for each element, on many processors without parallelism, which can
take most of the time of a training step with dropout (benchmarks/results/parts.md). Here each
64-bit number serves eight elements.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lora_tune.fast.patches import is_patched, patched_forward

MIN_BYTE_DROPOUT = 1 / 16  # below this probability, the positions to drop are drawn instead
LEVELS = 256  # values of a random byte
TOKENS_NDIM = 3  # (rows, tokens, width)


def draw_keep_mask(x: Tensor, dropout: float) -> Tensor:
    """Draw a mask of the shape and type of x: 1 with probability 1 - dropout, else 0.

    An element is kept if its random byte is below a limit, which makes the probability a multiple
    of 1/256. So each row of x draws one of the two limits around 256 (1 - dropout), such that their
    mean is exact; for two elements of a row, this raises the probability that both are dropped by
    at most 1/512^2. A small dropout draws the positions of dropped elements, without this effect.

    Args:
        dropout: the probability of 0, from 0 to below 1.
    """
    if x.device.type != "cpu":
        return torch.empty_like(x).bernoulli_(1 - dropout)
    if dropout < MIN_BYTE_DROPOUT:
        kept = torch.ones_like(x, memory_format=torch.contiguous_format)
        kept.view(-1)[draw_positions(x.numel(), dropout)] = 0
        return kept
    numbers = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    kept = numbers.view(torch.uint8)[: x.numel()].view(x.shape).to(x.dtype)
    limits = torch.rand(*x.shape[:-1], 1).add_((1 - dropout) * LEVELS).floor_().to(x.dtype)
    return torch.lt(kept, limits, out=kept)


def draw_positions(count: int, probability: float) -> Tensor:
    """Draw each position from 0 to count - 1 independently with the same probability.

    The gaps between successes of a Bernoulli process have a geometric distribution.

    Returns:
        The drawn positions in ascending order, int64.
    """
    expected = count * probability
    size = int(expected + 8 * expected**0.5) + 16  # 8 standard deviations above the mean
    positions = torch.empty(size, dtype=torch.int64).geometric_(probability).cumsum(0) - 1
    return positions[positions < count]


@contextmanager
def cpu_dropout(model: nn.Module) -> Iterator[int]:
    """Let the dropout layers of a model draw their masks in this way while it trains on a CPU.

    Yields:
        The number of these layers.
    """
    layers = [layer for layer in model.modules() if _is_dropout(layer)]
    with ExitStack() as patches:
        for layer in layers:
            patches.enter_context(patched_forward(layer, _make_forward(layer)))
        yield len(layers)


def _is_dropout(layer: Any) -> bool:
    return type(layer) is nn.Dropout and 0 < layer.p < 1 and not is_patched(layer)


def _make_forward(layer: Any) -> Callable[[Tensor], Tensor]:
    original = layer.forward

    def forward(x: Tensor) -> Tensor:
        # The dropout of a head, on one state for each row, costs little: its numbers stay torch's.
        if not layer.training or x.device.type != "cpu" or x.ndim < TOKENS_NDIM:
            result: Tensor = original(x)
            return result
        return x * draw_keep_mask(x, layer.p).mul_(1 / (1 - layer.p))

    return forward
