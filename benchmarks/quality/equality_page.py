"""Writes results/equality.md from what results/equality.json records."""

import json
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np
from scipy.stats import t as student_t
from tabulate import tabulate

from benchmarks.kept_output import RESULTS
from lora_tune.metrics.statistics import CONFIDENCE

RECORDS, PAGE = RESULTS / "equality.json", RESULTS / "equality.md"
EXACT = "exact: "  # begins the names of trainings of the same batches in float32 without dropout
FAILED = 0.95  # of the entropy of the class shares; a training loss above has learned nothing

Run = dict[str, Any]
# The second is subtracted from the first: what the difference shows.
PAIRS = [
    ("lora_tune", "Trainer, group_by_length", "lora_tune, both grouped by length"),
    ("lora_tune, random order", "Trainer, random order", "lora_tune, both in random order"),
    ("lora_tune", "lora_tune, random order", "grouping by length, in lora_tune"),
    ("Trainer, group_by_length", "Trainer, random order", "grouping by length, in Trainer"),
    ("lora_tune, 900 rows, best epoch", "lora_tune", "a tenth of the rows selects the epoch"),
    ("lora_tune, fast=false", "lora_tune", "without lora_tune/fast"),
]

SAME_ORDER = ("lora_tune, random order", "Trainer, random order")

ON_PEERS = """\
## What differs on the page of peers

Given the same batches, lora_tune trains as Trainer with PEFT does (see below). What it calls the
same settings in [peers.md](peers.md) is still another training:

- It has 900 of the 1,000 rows, so 171 steps instead of 189, because a tenth selects the best epoch.
- It had weight decay 0.01, the default of a recipe, where Trainer has 0.
- It was run with one seed. That seed gave 0.740 on one processor and 0.811 on another, 7 points
  apart; five seeds of the tuned Trainer on one processor are 3 points apart.

The order of the rows is not the cause there: classes of IMDb do not differ in length, so batches
of similar length are as mixed as random ones. Where classes differ in length, as in tweets,
grouping by length doubles the variance of a batch's class shares, in lora_tune as in Trainer;
`training.train_sampling_strategy=random` switches it off. A difference that is not in the tables
below has not been measured."""


def read_record() -> dict[str, Any]:
    """Read what was recorded: `runs`, the trainings; `batches`, by data set."""
    if not RECORDS.exists():
        return {"runs": [], "batches": {}}
    record: dict[str, Any] = json.loads(RECORDS.read_text())
    return record


def write_page() -> None:
    """Write results/equality.md."""
    record = read_record()
    runs = [run for run in record["runs"] if not run["side"].startswith(EXACT)]
    exact = [run for run in record["runs"] if run["side"].startswith(EXACT)]
    names = list(dict.fromkeys(run["data"] for run in runs))
    processors = sorted({run["processor"] for run in runs})
    versions = sorted({f"{k} {v}" for run in runs for k, v in run["versions"].items()})
    parts = [
        'Made by `make equality DATA="IMDb TWEETS"`: lora_tune and Trainer with PEFT train MiniLM '
        "on the same rows for the same number of steps, from the same initial weights of adapter "
        "and head, and keep the weights of the last step. LoRA of rank 8 and alpha 16 on `query` "
        "and `value`, learning rate 1e-3 without warm-up, linear decay, 3 epochs of batches of 16, "
        "dropout of 0.1 in the base model, bfloat16: the settings of [peers.md](peers.md), with "
        f"fewer tokens. {'; '.join(processors)}; {', '.join(versions)}.",
        *(_summarize(name, runs) for name in record["batches"]),
        ON_PEERS,
        _format_exact(exact),
        *(_format_accuracy(name, runs, record["batches"][name]) for name in names),
        _format_same_order(names, runs),
        _format_differences(names, runs),
        _format_batches(record["batches"]),
    ]
    PAGE.write_text("\n\n".join(parts) + "\n")


def _summarize(name: str, runs: Sequence[Run]) -> str:
    sides = _by_side(name, runs)
    first, second, _ = PAIRS[0]
    pairs = _pair_seeds(sides.get(first, []), sides.get(second, []))
    if not pairs:
        return f"**{name}:** not compared yet."
    accuracy, loss = (_format_paired(pairs, key) for key in ("accuracy", "test_loss"))
    difference = f"{first} - {second}, {len(pairs)} seeds"
    return f"**{name}:** {difference}: accuracy {accuracy}, test loss {loss}."


def _format_exact(runs: Sequence[Run]) -> str:
    first, *others = runs
    rows = [
        [
            run["side"].removeprefix(EXACT),
            f"{_largest_gap(run, first, 'losses'):.1g}",
            f"{_largest_gap(run, first, 'logits'):.1g}",
        ]
        for run in others
    ]
    headers = ["", "training loss of a step", "test logits after training"]
    return (
        f"## The same batches\n\nWith the batches of lora_tune for both, in float32 and without "
        f"dropout, nothing but rounding may differ. The largest difference from Trainer with PEFT, "
        f"{first['steps']} steps on {first['data']}, losses to 4 decimals:\n\n"
    ) + _format_table(rows, headers)


def _largest_gap(run: Run, other: Run, key: str) -> float:
    return float(np.abs(np.array(run[key]) - np.array(other[key])).max())


def _format_accuracy(name: str, runs: Sequence[Run], batches: dict[str, Any]) -> str:
    sides = _by_side(name, runs)
    first = next(iter(sides.values()))[0]
    rows = []
    for side, done in sides.items():
        accuracies = [run["accuracy"] for run in done]
        ends = [_last_epoch_loss(run) for run in done]
        failed = sum(end > FAILED * batches["class_entropy"] for end in ends)
        rows.append(
            [
                side,
                len(done),
                _format_mean(accuracies, ".3f"),
                " ".join(f"{value:.3f}" for value in accuracies),
                _format_mean([run["test_loss"] for run in done], ".3f"),
                _format_mean(ends, ".2f"),
                failed,
            ]
        )
    headers = ["", "seeds", "accuracy", "by seed", "test loss", "training loss, last epoch"]
    headers += ["learned nothing"]
    seeds = sorted({run["seed"] for done in sides.values() for run in done})
    return (
        f"## {name}\n\n{first['train_rows']:,} training rows of at most {first['max_length']} "
        f"tokens, {first['test_rows']:,} test rows, {first['steps']} steps. Means (and ranges) "
        f"over the seeds {', '.join(map(str, seeds))}. A run has learned nothing where its loss in "
        f"the last epoch is above {FAILED:.0%} of the entropy of the class shares, "
        f"{batches['class_entropy']:.2f}:\n\n"
    ) + _format_table(rows, headers)


def _last_epoch_loss(run: Run) -> float:
    return mean(run["losses"][-(len(run["losses"]) // 3) :])


def _format_same_order(names: Sequence[str], runs: Sequence[Run]) -> str:
    first, second = SAME_ORDER
    rows = []
    for name in names:
        sides = _by_side(name, runs)
        for pair in _pair_seeds(sides.get(first, []), sides.get(second, [])):
            losses = np.array([run["losses"] for run in pair])  # (2, steps)
            epoch = losses.shape[1] // 3
            rows.append(
                [
                    name,
                    pair[0]["seed"],
                    f"{losses[0].mean() - losses[1].mean():+.4f}",
                    f"{np.corrcoef(losses[:, :epoch])[0, 1]:.3f}",
                    f"{np.corrcoef(losses)[0, 1]:.3f}",
                ]
            )
    headers = ["data", "seed", "difference of the means", "correlation, first epoch"]
    headers += ["correlation, all epochs"]
    return (
        "## The same order, with dropout\n\nIn Trainer's random order, both see the same batches "
        "one after another; dropout and bfloat16 rounding differ. The training losses of the "
        "steps, lora_tune and Trainer:\n\n"
    ) + _format_table(rows, headers)


def _format_differences(names: Sequence[str], runs: Sequence[Run]) -> str:
    rows = []
    for name in names:
        sides = _by_side(name, runs)
        for first, second, what in PAIRS:
            if first in sides and second in sides:
                pairs = _pair_seeds(sides[first], sides[second])
                cells = [_format_paired(pairs, key) for key in ("accuracy", "test_loss")]
                rows.append([name, what, f"{first} - {second}", len(pairs), *cells])
    headers = ["data", "effect of", "difference", "seeds", "accuracy", "test loss"]
    return (
        "## Differences\n\nThe mean over the seeds of the difference between two runs with the "
        f"same seed, and its {CONFIDENCE:.0%} interval (Student's t, over seeds):\n\n"
    ) + _format_table(rows, headers)


def _format_paired(pairs: Sequence[tuple[Run, Run]], key: str) -> str:
    gaps = [first[key] - second[key] for first, second in pairs]
    if len(gaps) < 2:
        return f"{mean(gaps):+.3f}"
    half = student_t.ppf((1 + CONFIDENCE) / 2, len(gaps) - 1) * stdev(gaps) / len(gaps) ** 0.5
    return f"{mean(gaps):+.3f} ({mean(gaps) - half:+.3f} to {mean(gaps) + half:+.3f})"


def _pair_seeds(first: Sequence[Run], second: Sequence[Run]) -> list[tuple[Run, Run]]:
    by_seed = {run["seed"]: run for run in second}
    return [(run, by_seed[run["seed"]]) for run in first if run["seed"] in by_seed]


def _format_batches(batches: dict[str, Any]) -> str:
    rows = [
        [name, order, f"{measured['padding']:.1%}", f"{measured['class_variance']:.2f}"]
        for name, found in batches.items()
        for order, measured in found["orders"].items()
    ]
    headers = ["data", "order", "padding", "variance of class shares"]
    return (
        "## Batches\n\nWhat a batch of 16 rows consists of, of texts of at most 256 tokens as in "
        "peers.md: the share of padding, and the variance of its class shares over that of rows "
        "drawn independently (1: as mixed as independent rows). Nothing is trained for this:\n\n"
    ) + _format_table(rows, headers)


def _by_side(name: str, runs: Sequence[Run]) -> dict[str, list[Run]]:
    sides: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: int(run["seed"])):
        if run["data"] == name:
            sides.setdefault(run["side"], []).append(run)
    return sides


def _format_mean(values: Sequence[float], form: str) -> str:
    return f"{mean(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def _format_table(rows: list[list[Any]], headers: list[str]) -> str:
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)
