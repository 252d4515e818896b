"""The pictures of a run."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lora_tune.drawing import (
    HEIGHT,
    INK,
    LINE,
    LORA,
    OTHER,
    THIRD,
    draw_picture,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NAMED = 12  # classes with their names and counts in a picture
MOST_CELLS = 1000  # of a confusion matrix, the fullest
TOLD = 10  # classes or confusions in words
DASHES = ("-", "--", ":", "-.")
MARKS = ("o", "s", "^", "D")
Interval = tuple[float, float]


def ladder_picture(
    titles: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[Interval | None],
    *,
    metric: str,
    highlighted: int | None,
) -> str:
    """One line for each way of answering: its value and interval.

    Args:
        highlighted: the number of the one that stands out; None for none.
    """

    ends = [interval or (value, value) for value, interval in zip(values, intervals, strict=True)]

    def draw(axes: "Axes") -> None:
        for place, (value, (low, high)) in enumerate(zip(values, ends, strict=True)):
            colour = LORA if place == highlighted else OTHER
            axes.plot([low, high], [place, place], color=colour, linewidth=3, alpha=0.6)
            axes.plot([value], [place], "o", color=colour, markersize=7)
            axes.annotate(
                f"{value:.3f}",
                (value, place),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
            )
        axes.set_yticks(range(len(titles)), map(shorten, titles))
        axes.set_ylim(-0.6, len(titles) - 0.2)
        axes.set_xlabel(f"{metric}, with 95% interval")
        axes.grid(axis="x", color=LINE, alpha=0.6)

    told = ", ".join(
        f"{title} {value:.3f} ({low:.3f} to {high:.3f})"
        for title, value, (low, high) in zip(titles, values, ends, strict=True)
    )
    height = 0.9 + 0.42 * len(titles)
    return draw_picture(draw, f"{metric} with 95% interval: {told}.", height=height)


def loss_picture(
    steps: Sequence[Mapping[str, float]],
    evaluations: Sequence[Mapping[str, float]],
    *,
    kept_epoch: float | None,
) -> str:
    """Training loss over epochs, and the validation loss of each evaluation."""

    def draw(axes: "Axes") -> None:
        axes.plot(
            [row["epoch"] for row in steps],
            [row["train_loss"] for row in steps],
            color=OTHER,
            label="training",
        )
        axes.plot(
            [row["epoch"] for row in evaluations],
            [row["validation_loss"] for row in evaluations],
            "o--",
            color=LORA,
            label="validation",
        )
        if kept_epoch is not None:
            axes.axvline(kept_epoch, color=INK, linewidth=0.8, linestyle=":", label="kept")
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss")
        axes.set_ylim(bottom=0)
        axes.legend()

    told = ", ".join(f"epoch {row['epoch']:g} {row['validation_loss']:.3f}" for row in evaluations)
    return draw_picture(draw, f"Losses while training. Validation loss: {told}.")


def metric_picture(evaluations: Sequence[Mapping[str, float]], *, kept_epoch: float | None) -> str:
    """The validation metrics of each evaluation."""
    names = [
        name
        for name in evaluations[0]
        if name not in ("epoch", "step", "train_loss", "validation_loss")
    ]

    def draw(axes: "Axes") -> None:
        for number, name in enumerate(names):
            axes.plot(
                [row["epoch"] for row in evaluations],
                [row[name] for row in evaluations],
                f"{MARKS[number % len(MARKS)]}{DASHES[number % len(DASHES)]}",
                color=(LORA, OTHER, THIRD, INK)[number % 4],
                label=name.replace("_", " "),
            )
        if kept_epoch is not None:
            axes.axvline(kept_epoch, color=INK, linewidth=0.8, linestyle=":", label="kept")
        axes.set_xlabel("epoch")
        axes.legend()

    told = "; ".join(
        f"epoch {row['epoch']:g}: "
        + ", ".join(f"{name.replace('_', ' ')} {row[name]:.3f}" for name in names)
        for row in evaluations
    )
    return draw_picture(draw, f"Validation metrics. {told}.")


def confusion_picture(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """Rows by true and predicted class, shaded by the share of the true class."""
    counts = np.asarray(confusion)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    few = len(labels) <= MOST_NAMED

    def draw(axes: "Axes") -> None:
        for place in np.argsort(-shares, axis=None)[:MOST_CELLS]:
            true, called = divmod(int(place), len(labels))
            if counts[true, called]:
                # Pale, so that the number on it stays readable in either theme.
                shade = 0.05 + 0.4 * shares[true, called]
                axes.fill_between(
                    [called, called + 1], true, true + 1, color=LORA, alpha=shade, lw=0
                )
        axes.set_xlim(0, len(labels))
        axes.set_ylim(len(labels), 0)
        if few:
            for (true, called), count in np.ndenumerate(counts):
                axes.text(called + 0.5, true + 0.5, f"{count:,}", ha="center", va="center")
            names = [shorten(label) for label in labels]
            axes.set_xticks(np.arange(len(labels)) + 0.5, names, rotation=30, ha="right")
            axes.set_yticks(np.arange(len(labels)) + 0.5, names)
        axes.set_xlabel("predicted" if few else "predicted class number")
        axes.set_ylabel("true" if few else "true class number")

    wrong = np.where(np.eye(len(labels), dtype=bool), 0, counts)
    largest = [divmod(int(place), len(labels)) for place in np.argsort(-wrong, axis=None)[:TOLD]]
    told = "; ".join(
        f"{counts[true, called]} of {counts[true].sum()} rows of {labels[true]} as {labels[called]}"
        for true, called in largest
        if wrong[true, called]
    )
    told = f"Confusion matrix. {np.trace(counts)} of {counts.sum()} rows are right. {told}"
    return draw_picture(draw, told, height=max(HEIGHT, min(1.2 + 0.3 * len(labels), 2 * HEIGHT)))


def roc_picture(curves: Mapping[str, tuple[Sequence[Interval], float]]) -> str:
    """True against false positive rates, a curve for each class against all others."""

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
        if len(curves) <= 8:
            axes.legend(title="area", loc="lower right")

    told = ", ".join(f"{label} {area:.3f}" for label, (_, area) in [*curves.items()][:TOLD])
    return draw_picture(draw, f"ROC curves, each class against all others. Area: {told}.")


def reliability_picture(bins: Sequence[Mapping[str, float]], error: float) -> str:
    """Accuracy against confidence; points below the diagonal are too sure of themselves."""

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
        axes.set_xlabel("confidence, with rows")
        axes.set_ylabel("accuracy")
        axes.set_xlim(0, 1.05)
        axes.set_ylim(0, 1.05)

    told = ", ".join(
        f"{b['rows']} rows at confidence {b['confidence']:.2f} are right in {b['accuracy']:.2f}"
        for b in bins
    )
    return draw_picture(draw, f"Reliability: {told}. Expected calibration error {error:.3f}.")


def length_picture(
    edges: Sequence[float], counts: Mapping[str, Sequence[int]], *, max_length: int
) -> str:
    """Token counts of each split, as shares of its rows, and where they are cut."""

    def draw(axes: "Axes") -> None:
        for number, (split, values) in enumerate(counts.items()):
            axes.stairs(
                [value / max(1, sum(values)) for value in values],
                edges,
                color=(LORA, THIRD, OTHER)[number % 3],
                linestyle=DASHES[number % len(DASHES)],
                label=split,
            )
        if max_length < edges[-1]:
            axes.axvline(max_length, color=INK, linewidth=0.8, linestyle=":", label="cut here")
        axes.set_xlabel("tokens")
        axes.set_ylabel("share of rows")
        axes.legend()

    told = f"Token counts of {', '.join(counts)}, from {edges[0]:.0f} to {edges[-1]:.0f}"
    return draw_picture(draw, f"{told}; texts are cut at {max_length} tokens.")


def curve_picture(
    rows: Sequence[int],
    rungs: Mapping[str, Sequence[tuple[float, Interval]]],
    *,
    metric: str,
    highlighted: str,
) -> str:
    """Each rung's value and interval over the number of training rows, on a log axis.

    Args:
        rungs: title -> for each number of rows, its value and interval.
        highlighted: the title that stands out.
    """

    def draw(axes: "Axes") -> None:
        for number, (title, points) in enumerate(rungs.items()):
            values = [value for value, _ in points]
            lows = [value - low for value, (low, _) in points]
            highs = [high - value for value, (_, high) in points]
            axes.errorbar(
                [count * (1 + 0.02 * number) for count in rows],  # side by side
                values,
                yerr=[lows, highs],
                color=LORA if title == highlighted else (OTHER, THIRD, INK)[number % 3],
                linestyle=DASHES[number % len(DASHES)],
                marker="o",
                markersize=4,
                capsize=2,
                label=title,
            )
        axes.set_xscale("log")
        axes.set_xticks(rows, [f"{count:,}" for count in rows])
        axes.minorticks_off()
        axes.set_xlabel("training rows (log scale)")
        axes.set_ylabel(metric)
        axes.grid(color=LINE, alpha=0.6)
        axes.legend()

    told = "; ".join(
        f"{title}: "
        + ", ".join(
            f"{value:.3f} at {count:,}" for count, (value, _) in zip(rows, points, strict=True)
        )
        for title, points in rungs.items()
    )
    return draw_picture(draw, f"{metric} by number of training rows. {told}.", height=3.6)
