"""Plots of a classifier's probabilities: ROC curves and the reliability diagram."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lora_tune.report.svg import DASHES, LINE, LORA, OTHER, THIRD, draw_svg, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DESCRIBED_CLASSES = 10  # in the description for screen readers
MAX_LEGEND_CLASSES = 8


def roc_plot(curves: Mapping[str, tuple[Sequence[tuple[float, float]], float]]) -> str:
    """Plot the true against the false positive rate, a curve for each class against all others.

    Args:
        curves: label -> points (false positive rate, true positive rate), and the area under them.
    """

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=LINE)
        for number, (label, (points, area)) in enumerate(curves.items()):
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                color=(LORA, OTHER, THIRD)[number % 3],
                linestyle=DASHES[(number // 3) % len(DASHES)],
                label=f"{shorten(label)}: {area:.3f}",
            )
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
        axes.set_aspect("equal")
        if len(curves) <= MAX_LEGEND_CLASSES:
            axes.legend(title="area", loc="lower right")

    described = [*curves.items()][:DESCRIBED_CLASSES]
    areas = ", ".join(f"{label} {area:.3f}" for label, (_, area) in described)
    return draw_svg(
        draw, f"ROC curves, each class against all others. Area under the curve: {areas}."
    )


def calibration_plot(bins: Sequence[Mapping[str, float]], error: float) -> str:
    """Plot accuracy against confidence; points below the diagonal are overconfident.

    Args:
        bins: rows, confidence and accuracy of each.
        error: expected calibration error.
    """

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=LINE)
        axes.plot([b["confidence"] for b in bins], [b["accuracy"] for b in bins], "o-", color=LORA)
        for b in bins:
            axes.annotate(
                f"{b['rows']}",
                (b["confidence"], b["accuracy"]),
                xytext=(6, -10),
                textcoords="offset points",
                fontsize=8,
            )
        axes.set_xlabel("confidence (with numbers of rows)")
        axes.set_ylabel("accuracy")
        axes.set_xlim(0, 1.05)
        axes.set_ylim(0, 1.05)

    described = ", ".join(
        f"{b['rows']} rows with confidence {b['confidence']:.2f} have accuracy {b['accuracy']:.2f}"
        for b in bins
    )
    return draw_svg(
        draw, f"Reliability diagram: {described}. Expected calibration error {error:.3f}."
    )
