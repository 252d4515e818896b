"""Would more labels help? One run for each number of training rows, on the same test rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_tune.base import find_base
from lora_tune.comparison import COSTLY, LORA, TITLES
from lora_tune.data import load_data
from lora_tune.errors import ArtifactError, RecipeError
from lora_tune.finished_run import FinishedRun, read_run
from lora_tune.model import load_tokenizer
from lora_tune.pairs import Pair, compare_rows
from lora_tune.plots import curve_picture
from lora_tune.recipe import Recipe
from lora_tune.redaction import redact
from lora_tune.report import render, write_page
from lora_tune.run import run_recipe
from lora_tune.tasks import find_task

TEMPLATE = "curve.html.jinja"
CURVE_FILE = "curve.html"
CURVES = Path("curves")
FEWEST = 250  # rows, where nothing is said; doubled up to all


@dataclass(frozen=True)
class Curve:
    """Finished runs by their number of training rows, fewest first."""

    rows: list[int]
    runs: list[FinishedRun]
    verdict: str


def draw_curve(
    load: Callable[[int | None], Recipe],
    *,
    rows: Sequence[int] | None,
    output: Path | None,
    show: Callable[[str], None],
) -> Path:
    """Train with more and more rows, each set of them within the next; finished runs are kept.

    Args:
        load: gives the recipe for so many training rows; None for all.
        rows: how many; None for 250, 500, 1,000 and so on, and all.
        output: a directory for the runs; None for `curves/<recipe>`.

    Returns:
        The page with the picture.

    Raises:
        LoraTuneError: the recipe is not right, there are too few rows, or the directory holds
            runs of another recipe or other data.
    """
    whole = load(None)
    folder = output or CURVES / whole.name
    available = _count_rows(whole)
    chosen = sorted(set(rows)) if rows else _double(available)
    if chosen[-1] > available or chosen[0] < 2:
        wrong = chosen[-1] if chosen[-1] > available else chosen[0]
        raise RecipeError(
            f"--rows: {wrong} of {available} training rows (what validation and test leave); "
            f"expected 2 to {available}"
        )
    recipes = [load(count) for count in chosen]
    runs: list[FinishedRun] = []
    for count, recipe in zip(chosen, recipes, strict=True):
        place = folder / str(count)
        if place.exists():
            show(f"{count:,} rows: done before, in {place}")
        else:
            show(f"{count:,} rows:")
            run_recipe(recipe, output=place, show=show)
        run = read_run(place)
        _check_same(run, recipe)
        runs.append(run)
        curve = Curve(chosen[: len(runs)], runs, describe_curve(chosen[: len(runs)], runs))
        write_curve(curve, folder / CURVE_FILE)
    show(curve.verdict)
    return folder / CURVE_FILE


def describe_curve(rows: Sequence[int], runs: Sequence[FinishedRun]) -> str:
    """Say what the last addition of rows brought to LoRA and to its best cheap rival."""
    if len(runs) < 2:
        return f"One point, at {rows[0]:,} rows; a second tells what more rows bring."
    (few, many), rival = runs[-2:], runs[-1].comparison["best_cheap"]
    gains = {
        rung: compare_rows(many.right(rung), few.right(rung))
        for rung in (LORA, rival)
        if few.score(rung)
    }
    told = ", ".join(f"{TITLES[rung]} {_describe_gain(gain)}" for rung, gain in gains.items())
    lead = compare_rows(many.right(LORA), many.right(rival))
    before = compare_rows(few.right(LORA), few.right(rival))
    if lead.is_shown and lead.difference > 0:
        relation = f"LoRA still leads {TITLES[rival]} by {100 * lead.difference:.1f} points"
        relation += ": the lines have not met"
    elif lead.is_shown:
        relation = f"LoRA is behind {TITLES[rival]} by {-100 * lead.difference:.1f} points"
    else:
        crossed = before.is_shown and before.difference > 0
        relation = f"LoRA and {TITLES[rival]} {'have met' if crossed else 'cannot be told apart'}"
    advice = (
        "More rows are likely to help LoRA further."
        if gains[LORA].is_shown and gains[LORA].difference > 0
        else "More rows of this kind may bring LoRA little."
    )
    return (
        f"From {rows[-2]:,} to {rows[-1]:,} rows, on the same {many.comparison['test_rows']:,} "
        f"test rows: {told}; {relation}. {advice}"
    )


def write_curve(curve: Curve, path: Path) -> None:
    """Write the page of a curve.

    Raises:
        ArtifactError: it cannot be written there.
    """
    names = [score["rung"] for score in curve.runs[-1].comparison["rungs"]]
    rungs = {}
    for name in names:
        scores = [run.score(name) for run in curve.runs]
        if name not in ("majority", "base") and all(scores):
            rungs[TITLES[name]] = [
                (score["metrics"]["accuracy"], score["interval"]) for score in scores if score
            ]
    picture = curve_picture(curve.rows, rungs, metric="accuracy", highlighted=TITLES[LORA])
    page = render(TEMPLATE, curve=curve, rungs=rungs, picture=picture, costly=COSTLY)
    write_page(path, page)


def _describe_gain(gain: Pair) -> str:
    points = 100 * gain.difference
    if gain.interval is None:
        return f"{points:+.1f} points"
    low, high = (100 * end for end in gain.interval)
    return f"{points:+.1f} points (95% interval {low:+.1f} to {high:+.1f})"


def _count_rows(recipe: Recipe) -> int:
    """Count the training rows that are left when validation and test have theirs."""
    tokenizer = load_tokenizer(find_base(recipe.model), recipe.model, recipe.data)
    return len(load_data(recipe.data, find_task(recipe.task), tokenizer).train.rows.texts)


def _double(available: int) -> list[int]:
    rows = [min(FEWEST, available)]
    while rows[-1] < available:
        rows.append(min(2 * rows[-1], available))
    return rows


def _check_same(run: FinishedRun, recipe: Recipe) -> None:
    if run.recipe != redact(recipe.text):
        raise ArtifactError(
            f"{run.folder}: was made with other settings (its recipe.yaml differs); name another "
            "directory with --output"
        )
    tokenizer = load_tokenizer(find_base(recipe.model), recipe.model, recipe.data)
    data = load_data(recipe.data, find_task(recipe.task), tokenizer)
    if run.environment["data_fingerprint"] != data.fingerprint():
        raise ArtifactError(
            f"{run.folder}: was made with other rows; name another directory with --output"
        )
