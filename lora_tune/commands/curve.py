"""`curve`: one run for each number of training rows, on the same test rows (a learning curve)."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_tune.artifacts.run_reader import SavedRun, read_run
from lora_tune.commands.output import show, show_part
from lora_tune.commands.process_setup import prepare_process
from lora_tune.commands.shared_arguments import Verbs, add_recipe, add_verb
from lora_tune.config.recipe import Recipe
from lora_tune.config.redaction import redact
from lora_tune.data.splits import Data, load_data
from lora_tune.errors import ArtifactError, RecipeError
from lora_tune.evaluation.results import BASE, CONSTANT, IN_SENTENCE, LORA, MAJORITY, TITLES
from lora_tune.metrics.learning_curve import Trend, fit_trends, upper_half
from lora_tune.metrics.metric import Metric
from lora_tune.metrics.paired_comparison import compare_counts
from lora_tune.metrics.statistics import CONFIDENCE
from lora_tune.models.checkpoint import resolve_checkpoint
from lora_tune.models.tokenizer import load_tokenizer
from lora_tune.report.metric_plots import curve_plot
from lora_tune.report.page import fill_template, write_page
from lora_tune.system.environment import parallel_devices
from lora_tune.tasks import find_metric, make_task
from lora_tune.tasks.recipes import load_recipe
from lora_tune.training.budget import resolve_budget

TEMPLATE = "curve.html.jinja"
CURVE_FILE = "curve.html"
CURVES = Path("curves")
MIN_ROWS = 250  # of the first run by default; doubled up to all
NOT_PLOTTED = (MAJORITY, CONSTANT, BASE)  # they hardly depend on the training rows


@dataclass(frozen=True)
class Curve:
    """Finished runs by their number of training rows, smallest first."""

    rows: list[int]
    runs: list[SavedRun]
    verdict: str


def add_parser(verbs: Verbs) -> argparse.ArgumentParser:
    """Add `curve` to the command line."""
    parser = add_verb(
        verbs, "curve", "train with increasing numbers of rows: would more labels help?"
    )
    add_recipe(parser)
    parser.add_argument(
        "--rows",
        metavar="N,N",
        type=_parse_counts,
        help="numbers of training rows (default: 250, 500, 1000 and so on, and all)",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="a directory for the runs (default: curves/<recipe>)",
    )
    return parser


def run(options: argparse.Namespace) -> None:
    """Train a run for each number of rows, and print the verdict."""

    def load(more_overrides: Sequence[str]) -> Recipe:
        return load_recipe(options.recipe, [*options.overrides, *more_overrides])

    load([])  # errors in the recipe come before slow imports
    prepare_process()
    page = run_curve(load, rows=options.rows, output=options.output, show=show_part)
    show(f"Page: {page}")


def run_curve(
    load: Callable[[Sequence[str]], Recipe],
    *,
    rows: Sequence[int] | None,
    output: Path | None,
    show: Callable[[str], None],
) -> Path:
    """Train with increasing numbers of rows, each a subset of the next, for as many steps.

    Finished runs are kept.

    Args:
        load: loads the recipe with further overrides.
        rows: numbers of rows; None for 250, 500, 1,000 and so on, and all.
        output: a directory for the runs; None for `curves/<recipe>`.
        show: takes what each run prints, and the verdict.

    Returns:
        The path of the page with the plot.

    Raises:
        LoraTuneError: the recipe is wrong, there are too few rows, or the directory holds runs
            with another recipe or other data.
    """
    from lora_tune.run import run_recipe  # slow to import

    recipe = load([])
    folder = output or CURVES / recipe.name
    data = _load_data(recipe)
    counts = _choose_counts(rows, available=len(data.train.rows.texts))
    budget = resolve_budget(
        recipe.training,
        rows=counts[-1],
        can_select=True,
        labels=len(data.labels),
        devices=parallel_devices(),
    )
    recipes = [load(_overrides(recipe, count, budget.epochs * counts[-1])) for count in counts]
    places = [folder / str(count) for count in counts]
    is_done = [place.exists() for place in places]
    for place, point in zip(places, recipes, strict=True):
        if place.exists():
            _check_same(read_run(place), point)
    runs: list[SavedRun] = []
    for count, point, place, done in zip(counts, recipes, places, is_done, strict=True):
        if done:
            show(f"{count:,} rows: finished before, in {place}")
        else:
            show(f"{count:,} rows:")
            run_recipe(point, output=place, show=show)
        runs.append(read_run(place))
        curve = Curve(counts[: len(runs)], runs, describe_curve(counts[: len(runs)], runs))
        write_curve(curve, folder / CURVE_FILE)
    show(curve.verdict)
    return folder / CURVE_FILE


def describe_curve(rows: Sequence[int], runs: Sequence[SavedRun]) -> str:
    """Describe the trend of LoRA and of the best cheap baseline over all numbers of rows.

    Args:
        rows: numbers of training rows.
        runs: one for each number.
    """
    if len(runs) < 2:
        return (
            f"One point, at {rows[0]:,} rows; at least two are needed to see the effect of more "
            "rows."
        )
    last, baseline = runs[-1], runs[-1].comparison["best_baseline"]
    metric = find_metric(last.comparison["task"], last.comparison["metric"])
    trend, upper = fit_trends(rows, [run.counts(LORA) for run in runs], metric)
    other, _ = fit_trends(rows, [run.counts(baseline) for run in runs], metric)
    return (
        f"From {rows[0]:,} to {rows[-1]:,} rows, {len(runs)} points on the same "
        f"{last.comparison['test_rows']:,} test rows, {metric.title} per doubling of the rows: "
        f"LoRA {_describe_trend(trend, metric)}, {_in_sentence(baseline)} "
        f"{_describe_trend(other, metric)}; {_describe_lines(runs[-2], last, baseline, metric)}. "
        f"{_advise(trend, upper, rows, metric)}{_describe_seeds(last)}"
    )


def write_curve(curve: Curve, path: Path) -> None:
    """Write the page of a curve.

    Raises:
        ArtifactError: it cannot be written there.
    """
    last = curve.runs[-1].comparison
    metric = find_metric(last["task"], last["metric"])
    results = {}
    for name in (score["name"] for score in curve.runs[-1].comparison["results"]):
        scores = [run.score(name) for run in curve.runs]
        if name not in NOT_PLOTTED and all(scores):
            values = [score["metrics"][metric.name] for score in scores if score]
            intervals = [score["interval"] for score in scores if score]
            # There is no interval where all rows have the same counts.
            results[TITLES.get(name, name)] = [
                (value, interval or (value, value))
                for value, interval in zip(values, intervals, strict=True)
            ]
    plot = curve_plot(curve.rows, results, metric=metric.title, highlighted=TITLES[LORA])
    page = fill_template(TEMPLATE, curve=curve, results=results, plot=plot, metric=metric.title)
    write_page(path, page)


def _describe_trend(trend: Trend, metric: Metric) -> str:
    change = ("-" if trend.slope < 0 else "+") + metric.format_difference(trend.slope)
    return f"{change} ({CONFIDENCE:.0%} interval {metric.format_interval(*trend.interval)})"


def _describe_lines(few: SavedRun, many: SavedRun, baseline: str, metric: Metric) -> str:
    """Compare the lines of LoRA and a baseline at the two largest numbers of rows."""
    before = compare_counts(few.counts(LORA), few.counts(baseline), metric)
    lead = compare_counts(many.counts(LORA), many.counts(baseline), metric)
    other = _in_sentence(baseline)
    if not lead.is_significant:
        return f"there LoRA and {other} do not differ significantly"
    crossed = before.is_significant and before.difference * lead.difference < 0
    lines = "the lines have crossed" if crossed else "the lines have not crossed"
    side = "ahead of" if (lead.difference > 0) != metric.lower_is_better else "behind"
    return f"there LoRA is {metric.format_difference(lead.difference)} {side} {other}: {lines}"


def _describe_seeds(run: SavedRun) -> str:
    seeds = run.comparison["seeds"]
    return f" LoRA is that of the first of {len(seeds)} seeds." if seeds else ""


def _advise(trend: Trend, upper: Trend, rows: Sequence[int], metric: Metric) -> str:
    """Say whether more rows are likely to improve LoRA, by its trend over all and larger counts."""
    if trend.direction(metric) < 0:
        return "LoRA gets worse with more rows: check the labels of those added."
    if trend.direction(metric) == 0:
        few = "" if len(rows) > 2 else ", or more points (--rows)"
        return f"No clear trend: the interval includes 0. More test rows{few} would tell."
    if upper.direction(metric) > 0:
        return "More rows are likely to improve LoRA further."
    return (
        f"More rows improved LoRA, but from {rows[upper_half(len(rows))]:,} rows on no longer "
        f"clearly: {_describe_trend(upper, metric)}."
    )


def _in_sentence(system: str) -> str:
    return IN_SENTENCE.get(system, system)


def _load_data(recipe: Recipe) -> Data:
    tokenizer = load_tokenizer(resolve_checkpoint(recipe.model), recipe.model, data=recipe.data)
    return load_data(recipe.data, make_task(recipe.task), tokenizer)


def _choose_counts(rows: Sequence[int] | None, *, available: int) -> list[int]:
    """Choose the numbers of training rows, of those that validation and test leave."""
    if not rows:
        return _double(available)
    counts = sorted(set(rows))
    if counts[-1] > available or counts[0] < 2:
        wrong = counts[-1] if counts[-1] > available else counts[0]
        raise RecipeError(
            f"--rows: {wrong} of {available} training rows (without those for validation and "
            f"test); expected 2 to {available}"
        )
    return counts


def _double(available: int) -> list[int]:
    counts = [min(MIN_ROWS, available)]
    while counts[-1] < available:
        counts.append(2 * counts[-1] if 3 * counts[-1] <= available else available)
    return counts


def _overrides(recipe: Recipe, rows: int, trained_rows: float) -> list[str]:
    """Overrides that train with fewer rows, but for as many steps as with the most.

    With fewer steps, fewer rows would also do worse because training is shorter.

    Args:
        trained_rows: in all epochs together.
    """
    if recipe.training.get("max_steps", -1) > 0:
        return [f"data.train_rows={rows}"]
    return [f"data.train_rows={rows}", f"training.num_train_epochs={trained_rows / rows:.6g}"]


def _check_same(run: SavedRun, recipe: Recipe) -> None:
    if run.recipe != redact(recipe.text):
        raise ArtifactError(
            f"{run.folder}: was made with other settings (its recipe.yaml differs); name another "
            "directory with --output"
        )
    if run.environment["data_fingerprint"] != _load_data(recipe).fingerprint():
        raise ArtifactError(
            f"{run.folder}: was made with other rows; name another directory with --output"
        )


def _parse_counts(word: str) -> list[int]:
    try:
        return [int(part) for part in word.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers such as 250,1000, got {word}"
        ) from None
