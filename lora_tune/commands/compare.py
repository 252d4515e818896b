"""`compare`: compares the adapters of several finished runs on the same test rows."""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from lora_tune.artifacts.run_reader import SavedRun, read_run
from lora_tune.commands.output import show
from lora_tune.commands.process_setup import prepare_process
from lora_tune.commands.shared_arguments import Verbs, add_verb
from lora_tune.config.recipe_differences import find_differences
from lora_tune.errors import ArtifactError, RecipeError
from lora_tune.evaluation.results import LORA
from lora_tune.metrics.metric import PERPLEXITY, Metric
from lora_tune.metrics.paired_comparison import (
    PairedComparison,
    compare_counts,
    describe_comparison,
)
from lora_tune.metrics.statistics import CONFIDENCE, holm
from lora_tune.report.metric_plots import results_plot
from lora_tune.report.page import fill_template, write_page
from lora_tune.report.tables import format_cell, format_interval, format_number, format_table
from lora_tune.tasks import find_metric

TEMPLATE = "run_comparison.html.jinja"


@dataclass(frozen=True)
class PairwiseComparison:
    """The adapter of one run against that of another."""

    first: str  # names of the runs
    second: str
    paired: PairedComparison
    corrected_p_value: float  # by Holm's method, for all pairs
    verdict: str  # in words


@dataclass(frozen=True)
class RunComparison:
    """Runs on the same test rows, and their adapters in pairs."""

    metric: Metric
    names: list[str]
    runs: list[SavedRun]
    comparisons: list[PairwiseComparison]
    differences: dict[str, list[Any]]  # key of the recipes -> its value in each run

    def validation_score(self, run: SavedRun) -> float | None:
        """The metric on the validation rows at the kept step; None where it was not computed."""
        best = run.environment.get("best_step")
        kept = [row for row in run.evaluations if best in (None, row["step"])]
        return kept[-1].get(self.metric.name) if kept else None


def add_parser(verbs: Verbs) -> argparse.ArgumentParser:
    """Add `compare` to the command line."""
    parser = add_verb(verbs, "compare", "compare runs on the same test rows")
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", type=Path, help="two or more run directories"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        default=Path("compare.html"),
        help="the HTML page (default: compare.html)",
    )
    return parser


def run(options: argparse.Namespace) -> None:
    """Compare, print the comparison, and write its page."""
    if len(options.runs) < 2:
        raise RecipeError("compare: found one run directory, expected at least two")
    prepare_process()
    comparison = compare_runs(options.runs)
    show(run_table(comparison))
    write_run_comparison(comparison, options.output)
    show(f"Page: {options.output}")


def compare_runs(folders: Sequence[Path]) -> RunComparison:
    """Compare the adapters of two finished runs or more.

    Args:
        folders: run directories.

    Raises:
        ArtifactError: a run cannot be read or is named twice, or the test rows are not the same.
    """
    for place, count in Counter(folder.resolve() for folder in folders).items():
        if count > 1:
            raise ArtifactError(f"{place}: is named {count} times, expected different runs")
    runs = [read_run(folder) for folder in folders]
    names = _name_runs(runs)
    _check_same_rows(runs, names)
    metric = find_metric(runs[0].comparison["task"], runs[0].comparison["metric"])
    counts = [run.counts(LORA) for run in runs]
    for name, own in zip(names, counts, strict=True):
        if metric == PERPLEXITY and not np.array_equal(own[:, 1], counts[0][:, 1]):
            raise ArtifactError(
                f"{name}: its test rows have other numbers of tokens than those of {names[0]}, so "
                "their perplexities cannot be compared; expected the same tokenizer and "
                "data.max_length"
            )
    pairs = [
        (names[i], names[j], compare_counts(counts[i], counts[j], metric))
        for i, j in combinations(range(len(runs)), 2)
    ]
    corrected = holm([paired.p_value for _, _, paired in pairs])
    comparisons = []
    for (first, second, paired), p_value in zip(pairs, corrected, strict=True):
        verdict = describe_comparison(
            paired, first, second, metric=metric, p_value=p_value, comparisons=len(pairs)
        )
        comparisons.append(PairwiseComparison(first, second, paired, p_value, verdict))
    differences = find_differences([run.recipe for run in runs])
    return RunComparison(metric, names, runs, comparisons, differences)


def write_run_comparison(comparison: RunComparison, path: Path) -> None:
    """Write a page with the table, the plot and the verdicts.

    Raises:
        ArtifactError: it cannot be written there.
    """
    scores = [run.score(LORA) for run in comparison.runs]
    plot = results_plot(
        comparison.names,
        [score["metrics"][comparison.metric.name] for score in scores if score],
        [score["interval"] for score in scores if score],
        metric=comparison.metric.title,
        highlighted=None,
    )
    write_page(path, fill_template(TEMPLATE, comparison=comparison, scores=scores, plot=plot))


def run_table(comparison: RunComparison) -> str:
    """Format the adapter of each run, and each pair of them."""
    metric = comparison.metric.name
    others = [name for name in comparison.runs[0].comparison["adapted"] if name != metric]
    rows = []
    for name, run in zip(comparison.names, comparison.runs, strict=True):
        score = run.score(LORA)
        assert score is not None
        validation = comparison.validation_score(run)
        rows.append(
            [
                name,
                format_number(score["metrics"][metric]),
                format_interval(score["interval"]),
                "-" if validation is None else format_number(validation),
                *(format_number(score["metrics"][other]) for other in others),
                f"{score['trained_parameters']:,}",
            ]
        )
    test_rows = comparison.runs[0].comparison["test_rows"]
    headers = [f"{test_rows} test rows", metric, f"{CONFIDENCE:.0%} interval"]
    headers += [f"validation {metric}", *others]
    headers = [name.replace("_", " ") for name in [*headers, "trained parameters"]]
    verdicts = [pairwise.verdict for pairwise in comparison.comparisons]
    return "\n".join([format_table(rows, headers), *verdicts, "", differences_table(comparison)])


def differences_table(comparison: RunComparison) -> str:
    """Format the keys in which the recipes of the runs differ, with the value in each run."""
    if not comparison.differences:
        return "The recipes of these runs are the same."
    rows = [[key, *map(_format_value, v)] for key, v in comparison.differences.items()]
    return format_table(rows, ["recipe key", *comparison.names])


def _format_value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "-" if value is None else format_cell(value)


def _check_same_rows(runs: Sequence[SavedRun], names: Sequence[str]) -> None:
    for key in ("task", "metric"):
        found = {run.comparison[key] for run in runs}
        if len(found) > 1:
            raise ArtifactError(
                f"compare: found runs with the {key} {' and '.join(sorted(found))}, expected the "
                f"same {key}"
            )
    fingerprints = [run.environment["test_fingerprint"] for run in runs]
    for name, fingerprint in zip(names, fingerprints, strict=True):
        if fingerprint != fingerprints[0]:
            raise ArtifactError(
                f"{name}: its test rows are not those of {names[0]} (fingerprints "
                f"{fingerprint[:12]} and {fingerprints[0][:12]}); only runs on the same rows can "
                "be compared"
            )


def _name_runs(runs: Sequence[SavedRun]) -> list[str]:
    """Name runs by recipe, and where that is not enough by the end of their path that is."""
    paths = [run.folder.resolve().parts for run in runs]
    for length in range(max(map(len, paths)) + 1):
        tails = ["/".join(path[len(path) - min(length, len(path)) :]) for path in paths]
        names = [f"{run.name} {tail}".strip() for run, tail in zip(runs, tails, strict=True)]
        if len(set(names)) == len(names):
            break
    return names
