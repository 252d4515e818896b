"""How long training takes to the accuracy that a tutorial's script ends with.

`make bench` runs it after speed.py. Each contestant trains on the same rows in a fresh process,
seeds interleaved; validation rows are answered off the clock. Writes results/time_to_accuracy.json
and .md after each seed.
"""

import json
import sys
from statistics import mean, median
from typing import Any

import numpy as np
from kept_output import RESULTS, name_processor
from speed import run_contestant
from tabulate import tabulate

from lora_tune.environment import describe_environment
from lora_tune.statistics import paired_interval

# How often each answers the validation rows: the tutorial's end is the goal of ours.
CHECKS = {"tutorial": 1, "ours": 5, "ours, two epochs": 10}
SEEDS = (1, 2, 3)
ROWS, MAX_LENGTH = 1250, 512  # a fifth of the rows is for validation


def main(data: str) -> None:
    """Run, compare, write."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CHECKS}
    kept = {"processor": name_processor(describe_environment("cpu")), "runs": runs}
    for seed in SEEDS:
        for name, done in runs.items():
            done.append(run_contestant(name, data, ROWS, MAX_LENGTH, seed, CHECKS[name]))
            seconds, accuracy = done[-1]["checks"][-1]
            print(f"seed {seed}: {name}: {accuracy:.3f} in {seconds:.0f} s", flush=True)
        (RESULTS / "time_to_accuracy.json").write_text(json.dumps(kept, indent=1) + "\n")
        (RESULTS / "time_to_accuracy.md").write_text(write_page(kept))


def _seconds_to(run: dict[str, Any], accuracy: float) -> float | None:
    return next((seconds for seconds, found in run["checks"] if found >= accuracy), None)


def _tell_interval(values: np.ndarray, form: str) -> str:
    bounds = paired_interval(values)
    return "" if bounds is None else " to ".join(f"{bound:{form}}" for bound in bounds)


def write_page(kept: dict[str, Any]) -> str:
    """Write what time_to_accuracy.json holds as a page of Markdown."""
    runs: dict[str, list[dict[str, Any]]] = kept["runs"]
    first = next(iter(runs.values()))
    goals = [run["checks"][-1][1] for run in first]
    rows = []
    for name, done in runs.items():
        times = [_seconds_to(run, goal) for run, goal in zip(done, goals, strict=True)]
        # Of one seed each; a run that never gets there counts as never.
        ratios = [
            run["checks"][-1][0] / time if time else 0.0
            for run, time in zip(first, times, strict=True)
        ]
        got = [time for time in times if time]
        right = np.array([run["correct"] for run in done])
        gains = right.mean(axis=0) - np.array([run["correct"] for run in first]).mean(axis=0)
        rows.append(
            [
                name,
                ", ".join("never" if time is None else f"{time:.0f}" for time in times),
                f"{median(ratios):.1f}" if median(ratios) else f"{len(got)} of {len(times)} seeds",
                f"{mean(run['checks'][-1][0] for run in done):.0f}",
                f"{mean(run['checks'][-1][1] for run in done):.3f}",
                f"{right.mean():.3f}",
                _tell_interval(right.mean(axis=0), ".3f"),
                _tell_interval(gains, "+.3f"),
            ]
        )
    headers = ["", "to the tutorial's accuracy, s", "times as fast", "all of training, s"]
    headers += ["validation", "test", "95%", "beside the tutorial, 95%"]
    seeds = ", ".join(map(str, SEEDS[: len(first)]))
    told = ", ".join(f"{goal:.3f}" for goal in goals)
    return (
        f"Made by `make bench DATA=DATA`: {ROWS * 4 // 5} IMDb reviews of at most {MAX_LENGTH} "
        f"tokens, one epoch or two, seeds {seeds}. The tutorial's accuracy: on {ROWS // 5} "
        f"validation rows, at its end ({told}); ours answers them {CHECKS['ours']} times an "
        f"epoch, off the clock. Test: {len(first[0]['correct'])} rows, mean of the seeds, "
        "intervals by BCa over rows. The base's dropout is 0.1 in the tutorial, 0 in ours.\n"
        f"{kept['processor']}.\n\n"
        + tabulate(rows, headers, tablefmt="github", disable_numparse=True)
        + "\n"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
