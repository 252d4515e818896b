"""The plot of predicted against true numbers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lora_tune.report.svg import LINE, LORA, draw_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_POINTS = 2000  # drawn, evenly chosen; more make the page slow


def scatter_plot(true: Sequence[float], predicted: Sequence[float]) -> str:
    """Plot the predicted against the true number of each row; exact predictions are on the line.

    Args:
        true: of each row.
        predicted: of each row.
    """
    pairs = np.column_stack([true, predicted]).astype(float)  # (rows, 2)
    drawn = pairs[np.linspace(0, len(pairs) - 1, min(len(pairs), MAX_POINTS)).astype(int)]
    ends = [float(pairs.min()), float(pairs.max())]

    def draw(axes: "Axes") -> None:
        axes.plot(ends, ends, color=LINE)
        axes.plot(drawn[:, 0], drawn[:, 1], "o", color=LORA, markersize=3, alpha=0.5)
        axes.set_xlabel("true")
        axes.set_ylabel("predicted by LoRA")

    errors = np.abs(pairs[:, 1] - pairs[:, 0])
    return draw_svg(
        draw,
        f"Predicted against true numbers of {len(pairs):,} test rows, from {ends[0]:.3g} to "
        f"{ends[1]:.3g}; half of them are predicted to within {np.median(errors):.3g}.",
    )
