"""Pictures of a run, as SVG to stand inside a page: they take its colours and need no network."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 4.4, 3.0  # inches; small, so that text is readable on a phone
# Stand-ins that matplotlib draws with, and what the page puts in their place.
INK, LINE, LORA, OTHER, THIRD = "#010101", "#020202", "#030303", "#040404", "#050505"
COLOURS = {
    INK: "currentColor",
    LINE: "var(--line)",
    LORA: "var(--accent)",
    OTHER: "var(--second)",
    THIRD: "var(--third)",
}
DASHES = ("-", "--", ":", "-.")
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
Interval = tuple[float, float]


def ladder_picture(
    titles: Sequence[str], values: Sequence[float], intervals: Sequence[Interval], *, metric: str
) -> str:
    """One line for each rung, the last of which is LoRA: its value and interval."""

    def draw(axes: "Axes") -> None:
        for place, (value, (low, high)) in enumerate(zip(values, intervals, strict=True)):
            colour = LORA if place == len(titles) - 1 else OTHER
            axes.plot([low, high], [place, place], color=colour, linewidth=3, alpha=0.6)
            axes.plot([value], [place], "o", color=colour, markersize=7)
            axes.annotate(
                f"{value:.3f}",
                (value, place),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
            )
        axes.set_yticks(range(len(titles)), titles)
        axes.set_ylim(-0.6, len(titles) - 0.2)
        axes.set_xlabel(f"{metric}, with 95% interval")
        axes.grid(axis="x", color=LINE, alpha=0.6)

    told = ", ".join(
        f"{title} {value:.3f} ({low:.3f} to {high:.3f})"
        for title, value, (low, high) in zip(titles, values, intervals, strict=True)
    )
    height = 0.9 + 0.42 * len(titles)
    return _picture(draw, f"{metric} of each rung with its 95% interval: {told}.", height=height)


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
        axes.set_ylabel("loss, nats")
        axes.set_ylim(bottom=0)
        axes.legend()

    told = ", ".join(f"epoch {row['epoch']:g} {row['validation_loss']:.3f}" for row in evaluations)
    return _picture(draw, f"Losses while training. Validation loss: {told}.")


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
                f"o{DASHES[number % len(DASHES)]}",
                color=(LORA, OTHER, THIRD)[number % 3],
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
    return _picture(draw, f"Validation metrics. {told}.")


def confusion_picture(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """Rows by true and predicted class, shaded by the share of the true class."""
    from matplotlib.patches import Rectangle

    def draw(axes: "Axes") -> None:
        for true, counts in enumerate(confusion):
            for called, count in enumerate(counts):
                share = count / max(1, sum(counts))
                # An outline and a pale shade: the number on it stays readable in either theme.
                axes.add_patch(
                    Rectangle(
                        (called - 0.5, true - 0.5),
                        1,
                        1,
                        facecolor=LORA,
                        alpha=0.05 + 0.35 * share,
                        edgecolor="none",
                    )
                )
                if len(labels) <= 12:
                    axes.text(called, true, f"{count:,}", ha="center", va="center")
        axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
        axes.set_yticks(range(len(labels)), labels)
        axes.set_xlim(-0.5, len(labels) - 0.5)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")

    told = "; ".join(
        f"of {sum(counts)} rows of {label}, "
        + ", ".join(f"{count} as {other}" for other, count in zip(labels, counts, strict=True))
        for label, counts in zip(labels, confusion, strict=True)
    )
    height = max(HEIGHT, 1.2 + 0.3 * len(labels))
    return _picture(draw, f"Confusion matrix: {told}.", height=height)


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
                label=f"{label}: {area:.3f}",
            )
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
        axes.set_aspect("equal")
        if len(curves) <= 8:
            axes.legend(title="area", loc="lower right")

    told = ", ".join(f"{label} {area:.3f}" for label, (_, area) in curves.items())
    return _picture(draw, f"ROC curves, each class against all others. Area: {told}.")


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
    return _picture(draw, f"Reliability: {told}. Expected calibration error {error:.3f}.")


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
    return _picture(draw, f"{told}; texts are cut at {max_length} tokens.")


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
    return _picture(draw, f"{metric} by number of training rows. {told}.", height=3.6)


def _picture(draw: Any, told: str, *, height: float = HEIGHT) -> str:
    """Draw, and return SVG; told is its text for those who do not see it."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE | {"svg.hashsalt": told}):  # ids of its own in one page
        figure: Figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(buffer, metadata=metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for stand_in, colour in COLOURS.items():
        svg = svg.replace(stand_in, colour)
    svg = re.sub(r'^<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1">', svg, count=1)
    # Links inside a picture need no namespace in HTML.
    svg = svg.replace("xlink:href", "href")
    return svg.replace("<svg ", f'<svg role="img" aria-label={quoteattr(told)} ', 1)
