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
from kept_output import RESULTS
from speed import run_contestant
from tabulate import tabulate

from lora_tune.statistics import paired_interval, wilson_interval

# How often each answers the validation rows: the tutorial's end is the goal of ours.
CHECKS = {"tutorial": 1, "ours": 5, "ours, two epochs": 10}
SEEDS = (1, 2, 3)
ROWS, MAX_LENGTH = 1250, 512  # a fifth of the rows is for validation


def main(data: str) -> None:
    """Run, compare, write."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CHECKS}
    for seed in SEEDS:
        for name, done in runs.items():
            done.append(run_contestant(name, data, ROWS, MAX_LENGTH, seed, CHECKS[name]))
            seconds, accuracy = done[-1]["checks"][-1]
            print(f"seed {seed}: {name}: {accuracy:.3f} in {seconds:.0f} s", flush=True)
        (RESULTS / "time_to_accuracy.json").write_text(json.dumps(runs, indent=1) + "\n")
        (RESULTS / "time_to_accuracy.md").write_text(_table(runs))


def _seconds_to(run: dict[str, Any], accuracy: float) -> float | None:
    return next((seconds for seconds, found in run["checks"] if found >= accuracy), None)


def _table(runs: dict[str, list[dict[str, Any]]]) -> str:
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
        right = np.array([run["correct"] for run in done])
        low, high = wilson_interval(int(right[0].sum()), right.shape[1])
        gains = right.mean(axis=0) - np.array([run["correct"] for run in first]).mean(axis=0)
        beside = paired_interval(gains) if gains.any() else None
        rows.append(
            [
                name,
                ", ".join("never" if time is None else f"{time:.0f}" for time in times),
                f"{median(ratios):.1f}" if median(ratios) else "never",
                f"{mean(run['checks'][-1][0] for run in done):.0f}",
                f"{mean(run['checks'][-1][1] for run in done):.3f}",
                f"{right.mean():.3f}",
                f"{low:.3f} to {high:.3f}",
                "" if beside is None else f"{beside[0]:+.3f} to {beside[1]:+.3f}",
            ]
        )
    headers = ["", "seconds to it, by seed", "times as fast", "all of training, s"]
    headers += ["validation", "test", "95% of the first seed", "beside the tutorial, 95%"]
    seeds = ", ".join(map(str, SEEDS[: len(first)]))
    told = ", ".join(f"{goal:.3f}" for goal in goals)
    return (
        f"Made by `make bench DATA=DATA`: {ROWS * 4 // 5} IMDb reviews of at most {MAX_LENGTH} "
        f"tokens, one epoch or two, seeds {seeds}. It: the accuracy on {ROWS // 5} validation rows "
        f"that the tutorial ends with ({told}); ours answers them {CHECKS['ours']} times an "
        f"epoch, off the clock. Test: {len(first[0]['correct'])} rows, mean of the seeds; the last "
        "column is the interval (BCa over rows) of the mean difference.\n\n"
        + tabulate(rows, headers, tablefmt="github", disable_numparse=True)
        + "\n"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
