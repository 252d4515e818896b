"""Would more labels help? One run for each number of training rows, on the same test rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_tune.base import find_base
from lora_tune.comparison import LORA, SPOKEN, TITLES
from lora_tune.data import load_data
from lora_tune.errors import ArtifactError, RecipeError
from lora_tune.finished_run import FinishedRun, read_run
from lora_tune.metrics import Measure
from lora_tune.model import load_tokenizer
from lora_tune.pairs import Pair, compare_counts
from lora_tune.plots import curve_picture
from lora_tune.recipe import Recipe
from lora_tune.redaction import redact
from lora_tune.report import render, write_page
from lora_tune.run import run_recipe
from lora_tune.tasks import find_task
from lora_tune.text_metrics import find_measure

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
    load: Callable[[Sequence[str]], Recipe],
    *,
    rows: Sequence[int] | None,
    output: Path | None,
    show: Callable[[str], None],
) -> Path:
    """Train on more and more rows, each set of them within the next, for as many steps.

    Finished runs are kept.

    Args:
        load: gives the recipe with further overrides.
        rows: how many; None for 250, 500, 1,000 and so on, and all.
        output: a directory for the runs; None for `curves/<recipe>`.

    Returns:
        The page with the picture.

    Raises:
        LoraTuneError: the recipe is not right, there are too few rows, or the directory holds
            runs of another recipe or other data.
    """
    whole = load([])
    folder = output or CURVES / whole.name
    available = _count_rows(whole)
    chosen = sorted(set(rows)) if rows else _double(available)
    if chosen[-1] > available or chosen[0] < 2:
        wrong = chosen[-1] if chosen[-1] > available else chosen[0]
        raise RecipeError(
            f"--rows: {wrong} of {available} training rows (what validation and test leave); "
            f"expected 2 to {available}"
        )
    recipes = [load(_spread_steps(whole, count, chosen[-1])) for count in chosen]
    places = [folder / str(count) for count in chosen]
    done = [place.exists() for place in places]
    for place, recipe in zip(places, recipes, strict=True):
        if place.exists():
            _check_same(read_run(place), recipe)
    runs: list[FinishedRun] = []
    for count, recipe, place, is_done in zip(chosen, recipes, places, done, strict=True):
        if is_done:
            show(f"{count:,} rows: done before, in {place}")
        else:
            show(f"{count:,} rows:")
            run_recipe(recipe, output=place, show=show)
        runs.append(read_run(place))
        curve = Curve(chosen[: len(runs)], runs, describe_curve(chosen[: len(runs)], runs))
        write_curve(curve, folder / CURVE_FILE)
    show(curve.verdict)
    return folder / CURVE_FILE


def describe_curve(rows: Sequence[int], runs: Sequence[FinishedRun]) -> str:
    """Say what the last addition of rows brought to LoRA and to its best cheap rival."""
    if len(runs) < 2:
        return f"One point, at {rows[0]:,} rows; a second tells what more rows bring."
    (few, many), rival = runs[-2:], runs[-1].comparison["best_cheap"]
    measure = find_measure(many.comparison["metric"])
    gain = compare_counts(many.counts(LORA), few.counts(LORA), measure)
    told = f"LoRA {_describe_gain(gain, measure)}"
    of_rival = compare_counts(many.counts(rival), few.counts(rival), measure)
    told += f", {SPOKEN[rival]} {_describe_gain(of_rival, measure)}"
    return (
        f"From {rows[-2]:,} to {rows[-1]:,} rows, on the same {gain.rows:,} test rows: {told}; "
        f"{_describe_lines(few, many, rival, measure)}. {_advise(gain, measure)}"
        f"{_describe_seeds(many)}"
    )


def _describe_gain(gain: Pair, measure: Measure) -> str:
    told = ("-" if gain.difference < 0 else "+") + measure.tell(gain.difference)
    return f"{told} (95% interval {measure.span(*gain.interval)})" if gain.interval else told


def _describe_lines(few: FinishedRun, many: FinishedRun, rival: str, measure: Measure) -> str:
    """Say how LoRA's line lies to its rival's at the two largest numbers of rows."""
    before = compare_counts(few.counts(LORA), few.counts(rival), measure)
    lead = compare_counts(many.counts(LORA), many.counts(rival), measure)
    if not lead.is_shown:
        return f"LoRA and {SPOKEN[rival]} cannot be told apart there"
    crossed = before.is_shown and before.difference * lead.difference < 0
    met = "the lines have crossed" if crossed else "the lines have not crossed"
    side = "ahead of" if (lead.difference > 0) != measure.lower_is_better else "behind"
    return f"LoRA is {measure.tell(lead.difference)} {side} {SPOKEN[rival]} there: {met}"


def _describe_seeds(run: FinishedRun) -> str:
    seeds = run.comparison["seeds"]
    return f" LoRA is that of the first of {len(seeds)} seeds." if seeds else ""


def _advise(gain: Pair, measure: Measure) -> str:
    if gain.is_shown and (gain.difference > 0) != measure.lower_is_better:
        return "More rows are likely to help LoRA further."
    able = gain.smallest_difference()
    shown = f"{gain.rows:,} test rows can show {measure.tell(able)}" if able else "too few rows"
    return f"No gain of LoRA's from these rows is shown; {shown}."


def write_curve(curve: Curve, path: Path) -> None:
    """Write the page of a curve.

    Raises:
        ArtifactError: it cannot be written there.
    """
    measure = find_measure(curve.runs[-1].comparison["metric"])
    names = [score["rung"] for score in curve.runs[-1].comparison["rungs"]]
    rungs = {}
    for name in names:
        scores = [run.score(name) for run in curve.runs]
        if name not in ("majority", "constant", "base") and all(scores):
            values = [score["metrics"][measure.name] for score in scores if score]
            intervals = [score["interval"] for score in scores if score]
            # Where all rows say the same there is no interval.
            rungs[TITLES[name]] = [
                (value, interval or (value, value))
                for value, interval in zip(values, intervals, strict=True)
            ]
    picture = curve_picture(curve.rows, rungs, metric=measure.title, highlighted=TITLES[LORA])
    page = render(TEMPLATE, curve=curve, rungs=rungs, picture=picture, metric=measure.title)
    write_page(path, page)


def _count_rows(recipe: Recipe) -> int:
    """Count the training rows that are left when validation and test have theirs."""
    tokenizer = load_tokenizer(find_base(recipe.model), recipe.model, recipe.data)
    return len(load_data(recipe.data, find_task(recipe.task), tokenizer).train.rows.texts)


def _double(available: int) -> list[int]:
    rows = [min(FEWEST, available)]
    while rows[-1] < available:
        rows.append(2 * rows[-1] if 3 * rows[-1] <= available else available)
    return rows


def _spread_steps(whole: Recipe, rows: int, most: int) -> list[str]:
    """Overrides for fewer rows that are trained on for as many steps as the most.

    Else fewer rows would do worse for being trained on less, too.
    """
    if whole.training.get("max_steps", -1) > 0:
        return [f"data.train_rows={rows}"]
    epochs = whole.training["num_train_epochs"] * most / rows
    return [f"data.train_rows={rows}", f"training.num_train_epochs={epochs:.6g}"]


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
