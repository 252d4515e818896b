"""The plot of a confusion matrix."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lora_tune.report.svg import HEIGHT, LORA, draw_svg, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_NAMED_CLASSES = 12  # with more, cells have no counts and axes have no names
MAX_CELLS = 1000  # drawn, the largest shares first
DESCRIBED_CONFUSIONS = 10  # in the description for screen readers


def confusion_plot(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """Plot rows by true and predicted class, shaded by their share of the true class.

    Args:
        confusion: (classes, classes), counts by true and predicted class.
        labels: the names of the classes in the order of their IDs.
    """
    counts = np.asarray(confusion)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    is_named = len(labels) <= MAX_NAMED_CLASSES

    def draw(axes: "Axes") -> None:
        for place in np.argsort(-shares, axis=None)[:MAX_CELLS]:
            true, predicted = divmod(int(place), len(labels))
            if counts[true, predicted]:
                # Pale, so that the number on it stays readable in light and dark themes.
                shade = 0.05 + 0.4 * shares[true, predicted]
                axes.fill_between(
                    [predicted, predicted + 1], true, true + 1, color=LORA, alpha=shade, lw=0
                )
        axes.set_xlim(0, len(labels))
        axes.set_ylim(len(labels), 0)
        if is_named:
            for (true, predicted), count in np.ndenumerate(counts):
                axes.text(predicted + 0.5, true + 0.5, f"{count:,}", ha="center", va="center")
            names = [shorten(label) for label in labels]
            axes.set_xticks(np.arange(len(labels)) + 0.5, names, rotation=30, ha="right")
            axes.set_yticks(np.arange(len(labels)) + 0.5, names)
        axes.set_xlabel("predicted" if is_named else "predicted class ID")
        axes.set_ylabel("true" if is_named else "true class ID")

    height = max(HEIGHT, min(1.2 + 0.3 * len(labels), 2 * HEIGHT))
    return draw_svg(draw, _describe(counts, labels), height=height)


def _describe(counts: np.ndarray, labels: Sequence[str]) -> str:
    errors = np.where(np.eye(len(labels), dtype=bool), 0, counts)
    largest = np.argsort(-errors, axis=None)[:DESCRIBED_CONFUSIONS]
    confusions = "; ".join(
        f"{counts[true, predicted]} of {counts[true].sum()} rows of {labels[true]} as "
        f"{labels[predicted]}"
        for true, predicted in (divmod(int(place), len(labels)) for place in largest)
        if errors[true, predicted]
    )
    correct = f"{np.trace(counts)} of {counts.sum()} rows are correct."
    return f"Confusion matrix. {correct} {confusions}"
