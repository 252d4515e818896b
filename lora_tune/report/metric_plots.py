"""Plots of a metric with confidence intervals: by system, and by number of training rows."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lora_tune.report.svg import DASHES, INK, LINE, LORA, OTHER, THIRD, draw_svg, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Interval = tuple[float, float]


def results_plot(
    titles: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[Interval | None],
    *,
    metric: str,
    highlighted: int | None,
) -> str:
    """Plot the metric and confidence interval of each system, one line per system.

    Args:
        titles: of the systems.
        values: the metric of each.
        intervals: None where a system has no interval.
        metric: its title.
        highlighted: index of the system in the accent color; None for none.
    """
    bounds = [interval or (value, value) for value, interval in zip(values, intervals, strict=True)]

    def draw(axes: "Axes") -> None:
        for place, (value, (low, high)) in enumerate(zip(values, bounds, strict=True)):
            color = LORA if place == highlighted else OTHER
            axes.plot([low, high], [place, place], color=color, linewidth=3, alpha=0.6)
            axes.plot([value], [place], "o", color=color, markersize=7)
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

    systems = ", ".join(
        f"{title} {value:.3f} ({low:.3f} to {high:.3f})"
        for title, value, (low, high) in zip(titles, values, bounds, strict=True)
    )
    height = 0.9 + 0.42 * len(titles)
    return draw_svg(draw, f"{metric} with 95% interval: {systems}.", height=height)


def curve_plot(
    rows: Sequence[int],
    results: Mapping[str, Sequence[tuple[float, Interval]]],
    *,
    metric: str,
    highlighted: str,
) -> str:
    """Plot each system's metric and interval over the number of training rows, on a log axis.

    Args:
        rows: numbers of training rows.
        results: title of a system -> value and interval for each number of rows.
        metric: its title.
        highlighted: the title of the system in the accent color.
    """

    def draw(axes: "Axes") -> None:
        for number, (title, points) in enumerate(results.items()):
            values = [value for value, _ in points]
            lows = [value - low for value, (low, _) in points]
            highs = [high - value for value, (_, high) in points]
            axes.errorbar(
                [count * (1 + 0.02 * number) for count in rows],  # shifted, so that bars stay apart
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

    systems = "; ".join(
        f"{title}: "
        + ", ".join(
            f"{value:.3f} at {count:,}" for count, (value, _) in zip(rows, points, strict=True)
        )
        for title, points in results.items()
    )
    return draw_svg(draw, f"{metric} by number of training rows. {systems}.", height=3.6)
