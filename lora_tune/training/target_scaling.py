"""Standardizes the numbers that a regression predicts, and returns its head to their own unit."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch.nn import Linear

ROUNDING = 1e-9  # of numbers that are all the same, relative to the largest


@dataclass(frozen=True)
class TargetScaling:
    """What numbers are standardized with: z = (y - mean) / scale."""

    mean: float
    scale: float  # above 0

    def standardize(self, values: np.ndarray) -> np.ndarray:
        """Standardize numbers, (rows,)."""
        return (values - self.mean) / self.scale

    def fold(self, layer: "Linear") -> None:
        """Let a layer that predicts standardized numbers predict them in their own unit."""
        import torch

        with torch.no_grad():
            layer.weight.mul_(self.scale)
            if layer.bias is not None:
                layer.bias.mul_(self.scale).add_(self.mean)

    @contextmanager
    def folded(self, layer: "Linear") -> Iterator[None]:
        """Fold while a block runs, and put the layer's own values back, bit for bit."""
        import torch

        own = [parameter.detach().clone() for parameter in layer.parameters()]
        self.fold(layer)
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, values in zip(layer.parameters(), own, strict=True):
                    parameter.copy_(values)


def fit_scaling(values: np.ndarray, *, has_bias: bool) -> TargetScaling:
    """Fit the standardization to the numbers of the training rows, (rows,).

    Args:
        has_bias: whether the head has a bias; without one, the mean cannot be added back, so that
            numbers are only divided.
    """
    mean = float(values.mean()) if has_bias else 0.0
    scale = float(np.sqrt(np.square(values - mean).mean()))
    is_constant = scale <= ROUNDING * abs(values).max(initial=0.0)
    return TargetScaling(mean, 1.0 if is_constant else scale)
