"""How long training takes to reach the plain Trainer's accuracy: `make time-to-accuracy DATA=...`.

Each contestant trains on the same rows in a fresh process, with seeds interleaved; validation rows
are evaluated with the clock stopped. Writes results/time_to_accuracy.json and .md after each seed.
"""

import json
import sys
from statistics import mean, median
from typing import Any

import numpy as np
from tabulate import tabulate

from benchmarks.kept_output import RESULTS, name_processor
from benchmarks.speed.contestants import TITLES
from benchmarks.speed.speed import run_contestant
from lora_tune.metrics.metric import mean_from_sums
from lora_tune.metrics.statistics import metric_interval
from lora_tune.system.environment import describe_environment

# How often each evaluates the validation rows. The Trainer's accuracy at its end is the target.
EVALUATIONS = {"tutorial": 1, "ours": 5, "ours, two epochs": 10}
SEEDS = (1, 2, 3)
ROWS, MAX_LENGTH = 1250, 512  # a fifth of the rows is for validation


def main(data: str) -> None:
    """Measure, then write the record and the page.

    Args:
        data: a folder with IMDb's train.parquet and test.parquet.
    """
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in EVALUATIONS}
    record = {"processor": name_processor(describe_environment("cpu")), "runs": runs}
    for seed in SEEDS:
        for name, done in runs.items():
            run = run_contestant(
                name,
                data,
                rows=ROWS,
                max_length=MAX_LENGTH,
                seed=seed,
                evaluations=EVALUATIONS[name],
            )
            done.append(run)
            seconds, accuracy = run["checks"][-1]
            print(f"seed {seed}: {TITLES[name]}: {accuracy:.3f} in {seconds:.0f} s", flush=True)
        (RESULTS / "time_to_accuracy.json").write_text(json.dumps(record, indent=1) + "\n")
        write_page()


def write_page() -> None:
    """Write time_to_accuracy.md from time_to_accuracy.json."""
    record = json.loads((RESULTS / "time_to_accuracy.json").read_text())
    (RESULTS / "time_to_accuracy.md").write_text(format_page(record))


def format_page(record: dict[str, Any]) -> str:
    """Format the record as Markdown."""
    runs: dict[str, list[dict[str, Any]]] = record["runs"]
    reference = next(iter(runs.values()))
    targets = [run["checks"][-1][1] for run in reference]
    reference_correct = np.array([run["correct"] for run in reference])
    rows = []
    for name, done in runs.items():
        times = [_seconds_to(run, target) for run, target in zip(done, targets, strict=True)]
        # One ratio per seed; a run that never reaches the target counts as 0.
        ratios = [
            run["checks"][-1][0] / time if time else 0.0
            for run, time in zip(reference, times, strict=True)
        ]
        reached = sum(time is not None for time in times)
        correct = np.array([run["correct"] for run in done])  # (seeds, test rows)
        gains = correct.mean(axis=0) - reference_correct.mean(axis=0)
        rows.append(
            [
                TITLES[name],
                ", ".join("never" if time is None else f"{time:.0f}" for time in times),
                f"{median(ratios):.1f}" if median(ratios) else f"{reached} of {len(times)} seeds",
                f"{mean(run['checks'][-1][0] for run in done):.0f}",
                f"{mean(run['checks'][-1][1] for run in done):.3f}",
                f"{correct.mean():.3f}",
                _format_interval(correct.mean(axis=0), ".3f"),
                _format_interval(gains, "+.3f"),
            ]
        )
    headers = ["", "to target accuracy, s", "speed-up", "whole training, s"]
    headers += ["validation accuracy", "test accuracy", "95% interval"]
    headers += ["difference from Trainer, 95% interval"]
    seeds = ", ".join(map(str, SEEDS[: len(reference)]))
    formatted = ", ".join(f"{target:.3f}" for target in targets)
    return (
        f"Made by `make time-to-accuracy DATA=FOLDER`: {ROWS * 4 // 5} IMDb reviews of at most "
        f"{MAX_LENGTH} tokens, one epoch or two, seeds {seeds}. The target is the accuracy of "
        f"PEFT with the plain Trainer on {ROWS // 5} validation rows at the end of its training "
        f"({formatted}). lora_tune evaluates them {EVALUATIONS['ours']} times per epoch, with the "
        f"clock stopped. Test accuracy: {len(reference[0]['correct'])} rows, mean over seeds, BCa "
        "intervals over rows. The base model's dropout is 0.1 for the Trainer and 0 for "
        f"lora_tune.\n{record['processor']}.\n\n"
        + tabulate(rows, headers, tablefmt="github", disable_numparse=True)
        + "\n"
    )


def _seconds_to(run: dict[str, Any], accuracy: float) -> float | None:
    """Find when a run first reached an accuracy, in seconds of training; None: never."""
    return next((seconds for seconds, found in run["checks"] if found >= accuracy), None)


def _format_interval(values: np.ndarray, form: str) -> str:
    counts = np.stack([values, np.ones_like(values, dtype=float)], axis=1)
    bounds = metric_interval(counts, mean_from_sums)
    return "" if bounds is None else " to ".join(f"{bound:{form}}" for bound in bounds)


if __name__ == "__main__":
    main(*sys.argv[1:])
