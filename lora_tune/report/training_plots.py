"""Plots of a training run: losses and metrics by epoch, and the token counts of its rows."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lora_tune.report.svg import DASHES, INK, LORA, OTHER, THIRD, draw_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL_HEIGHT = 2.4  # inches
NOT_METRICS = ("epoch", "step", "train_loss", "validation_loss")


def loss_plot(
    steps: Sequence[Mapping[str, float]],
    evaluations: Sequence[Mapping[str, float]],
    *,
    kept_epoch: float | None,
) -> str:
    """Plot the training loss by epoch, and the validation loss of each evaluation.

    Args:
        steps: epoch and train_loss of optimizer steps.
        evaluations: epoch and validation_loss of each evaluation.
        kept_epoch: the epoch of the saved adapter.
    """

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
        _mark_epoch(axes, kept_epoch)
        axes.set_ylabel("loss")
        axes.set_ylim(bottom=0)
        axes.legend()

    losses = ", ".join(
        f"epoch {row['epoch']:g} {row['validation_loss']:.3f}" for row in evaluations
    )
    return draw_svg(draw, f"Training and validation loss. Validation loss: {losses}.")


def metric_plots(
    evaluations: Sequence[Mapping[str, float]], *, kept_epoch: float | None
) -> list[str]:
    """Plot each validation metric by epoch, one plot for each metric."""
    names = [name for name in evaluations[0] if name not in NOT_METRICS]
    return [_metric_plot(name, evaluations, kept_epoch) for name in names]


def _metric_plot(
    name: str, evaluations: Sequence[Mapping[str, float]], kept_epoch: float | None
) -> str:
    title = name.replace("_", " ")

    def draw(axes: "Axes") -> None:
        epochs = [row["epoch"] for row in evaluations]
        axes.plot(epochs, [row[name] for row in evaluations], "o--", color=LORA)
        _mark_epoch(axes, kept_epoch)
        axes.set_ylabel(title)

    epochs = ", ".join(f"epoch {row['epoch']:g} {row[name]:.3f}" for row in evaluations)
    return draw_svg(draw, f"Validation {title}: {epochs}.", height=SMALL_HEIGHT)


def length_plot(
    edges: Sequence[float], counts: Mapping[str, Sequence[int]], *, max_length: int
) -> str:
    """Plot a histogram of the token counts of each split, and where texts are truncated.

    Args:
        edges: token counts between which the bins lie.
        counts: split -> rows in each bin.
        max_length: tokens.
    """

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
            axes.axvline(max_length, color=INK, linewidth=0.8, linestyle=":", label="truncated")
        axes.set_xlabel("tokens")
        axes.set_ylabel("share of rows")
        axes.legend()

    bounds = f"from {edges[0]:.0f} to {edges[-1]:.0f}"
    return draw_svg(
        draw,
        f"Token counts of {', '.join(counts)}, {bounds}; texts are truncated at {max_length} "
        "tokens.",
    )


def _mark_epoch(axes: "Axes", kept_epoch: float | None) -> None:
    axes.set_xlabel("epoch")
    if kept_epoch is not None:
        axes.axvline(kept_epoch, color=INK, linewidth=0.8, linestyle=":", label="kept")
