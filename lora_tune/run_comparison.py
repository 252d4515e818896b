"""Several finished runs on the same test rows: which adapter is better, and how sure that is."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from lora_tune.comparison import LORA
from lora_tune.errors import ArtifactError
from lora_tune.finished_run import FinishedRun, read_run
from lora_tune.metrics import PERPLEXITY, Measure
from lora_tune.pairs import Pair, compare_counts, describe_pair
from lora_tune.plots import ladder_picture
from lora_tune.report import render, write_page
from lora_tune.statistics import holm
from lora_tune.text_metrics import find_measure

TEMPLATE = "run_comparison.html.jinja"


@dataclass(frozen=True)
class RunPair:
    """One run against another."""

    first: str
    second: str
    pair: Pair
    corrected_p: float  # Holm, over all pairs
    verdict: str


@dataclass(frozen=True)
class RunComparison:
    """Runs on the same test rows."""

    measure: Measure
    names: list[str]
    runs: list[FinishedRun]
    pairs: list[RunPair]


def compare_runs(folders: Sequence[Path]) -> RunComparison:
    """Compare the adapters of two finished runs or more.

    Raises:
        ArtifactError: a run cannot be read, is named twice, or the test rows are not the same.
    """
    for place, count in Counter(folder.resolve() for folder in folders).items():
        if count > 1:
            raise ArtifactError(f"{place}: is named {count} times, expected runs that differ")
    runs = [read_run(folder) for folder in folders]
    names = _name(runs)
    for key in ("task", "metric"):
        kinds = {run.comparison[key] for run in runs}
        if len(kinds) > 1:
            raise ArtifactError(
                f"compare: found runs of {' and '.join(sorted(kinds))}, expected one {key}"
            )
    rows = [run.environment["test_fingerprint"] for run in runs]
    for name, found in zip(names, rows, strict=True):
        if found != rows[0]:
            raise ArtifactError(
                f"{name}: its test rows are not those of {names[0]} (fingerprints {found[:12]} and "
                f"{rows[0][:12]}); only runs on the same rows can be compared"
            )
    measure = find_measure(runs[0].comparison["metric"])
    counts = [run.counts(LORA) for run in runs]
    for name, own in zip(names, counts, strict=True):
        if measure == PERPLEXITY and not np.array_equal(own[:, 1], counts[0][:, 1]):
            raise ArtifactError(
                f"{name}: cuts the test rows into other tokens than {names[0]}, so their "
                "perplexities cannot be compared; expected one tokenizer and one data.max_length"
            )
    found = [
        (names[i], names[j], compare_counts(counts[i], counts[j], measure))
        for i, j in combinations(range(len(runs)), 2)
    ]
    corrected = holm([pair.p_value for _, _, pair in found])
    return RunComparison(
        measure,
        names,
        runs,
        [
            RunPair(
                first,
                second,
                pair,
                p,
                describe_pair(pair, first, second, measure=measure, p_value=p, pairs=len(found)),
            )
            for (first, second, pair), p in zip(found, corrected, strict=True)
        ],
    )


def write_run_comparison(compared: RunComparison, path: Path) -> None:
    """Write a page with the runs' table, picture and verdicts.

    Raises:
        ArtifactError: it cannot be written there.
    """
    scores = [run.score(LORA) for run in compared.runs]
    picture = ladder_picture(
        compared.names,
        [score["metrics"][compared.measure.name] for score in scores if score],
        [score["interval"] for score in scores if score],
        metric=compared.measure.title,
        highlighted=None,
    )
    write_page(path, render(TEMPLATE, compared=compared, scores=scores, picture=picture))


def _name(runs: Sequence[FinishedRun]) -> list[str]:
    """Call runs by their recipes, and by their directories too where that is not enough."""
    names = [run.name for run in runs]
    if len(set(names)) == len(names):
        return names
    names = [f"{run.name} {run.folder.resolve().name}" for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]
