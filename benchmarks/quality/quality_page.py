"""The page of the table of record, made from its recorded results."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, mean, median
from typing import Any

from tabulate import tabulate

from benchmarks.kept_output import RESULTS

# Data sets that the defaults were chosen on; the others confirm the choice.
CHOSEN_ON = ("airline_tweets", "banking10", "goemotions", "sts", "imdb", "wnut17")
LEVEL = 0.05  # of all tests together


@dataclass(frozen=True)
class Cell:
    """A data set and a size, over all seeds that are recorded."""

    data: str
    rows: int
    seeds: int
    scores: dict[str, float]  # system -> mean
    best: str  # the best of the cheap baselines, by its mean
    points: float  # LoRA above it; for errors, in percent of the constant prediction's
    old_points: float | None  # LoRA above the defaults of 0.1.0 with the same rows, likewise
    p_value: float  # that LoRA is worse or better than the best cheap baseline by chance


def write_page(records: Sequence[Mapping[str, Any]]) -> None:
    """Write results/quality.md.

    Args:
        records: of `make quality`.
    """
    cells = list(make_cells(records))
    lines = [
        "# Quality from few rows",
        "",
        "Made by `make quality DATA=FOLDER`. MiniLM (sentence-transformers/all-MiniLM-L6-v2); no "
        "key of the recipe is set but data, task, base model and seed; at most 128 tokens and "
        "1,000 test rows; of the rows, a tenth is for validation. Means over seeds, each with rows "
        "drawn anew. Accuracy; for goemotions micro F1; for wnut17 entity F1; for sts the mean "
        "absolute error on a scale of 0 to 5 (lower is better), whose points are percent of the "
        "error of the constant prediction. wnut17 has no linear probe among its baselines, so what "
        "LoRA gains there is against the most frequent tag of each word. 0.1.0's defaults are its "
        "pooling, its random head, its three epochs, of which the best is kept, and its learning "
        "rate; all else is as today. "
        "PEFT, Trainer: the settings of PEFT's examples, for several labels with a threshold of "
        "0.5. p: of the difference between LoRA and the best cheap baseline, over the test rows, "
        "not over draws of training rows.",
        "",
        f"The defaults were chosen on {', '.join(CHOSEN_ON)}; the other data "
        "sets took no part in it, but for the regularization of the head's start, which was chosen "
        "after looking at seed 1 of all of them, and the number of steps, after looking at one "
        "more draw of banking77. Seeds 2 and 3 were not looked at.",
        "",
        *_summary(cells),
        "",
        tabulate(list(_table(cells)), headers="keys", tablefmt="github", disable_numparse=True),
        "",
        *_machines(records),
        "",
    ]
    (RESULTS / "quality.md").write_text("\n".join(lines), encoding="utf-8")


def make_cells(records: Sequence[Mapping[str, Any]]) -> Iterable[Cell]:
    """Average the records of each data set and size."""
    keys = dict.fromkeys((r["rows"], r["data"]) for r in records if r["system"] == "lora")
    for rows, data in sorted(keys):
        own = [r for r in records if (r["rows"], r["data"]) == (rows, data)]
        runs = [r for r in own if r["system"] == "lora"]
        scores = {name: mean(r["results"][name] for r in runs) for name in runs[0]["results"]}
        sign = -1 if runs[0]["lower_is_better"] else 1
        cheap = [name for name in scores if name != "lora"]
        best = max(cheap, key=lambda name: sign * scores[name])
        unit = 100 / (scores["constant"] if runs[0]["lower_is_better"] else 1)
        for system, name in (("old_defaults", "lora"), ("full", "full"), ("trainer", "trainer")):
            found = [r["results"][name] for r in own if r["system"] == system]
            if found:
                scores[system] = mean(found)
        lora = {r["seed"]: r["results"]["lora"] for r in runs}
        gains = [
            sign * unit * (lora[r["seed"]] - r["results"]["lora"])
            for r in own
            if r["system"] == "old_defaults" and r["seed"] in lora
        ]
        yield Cell(
            data,
            rows,
            len(runs),
            scores,
            best,
            sign * unit * (scores["lora"] - scores[best]),
            mean(gains) if gains else None,
            _p_value([r["against"][best] for r in runs]),
        )


def _p_value(comparisons: Sequence[Mapping[str, Any]]) -> float:
    """Test the mean difference over seeds.

    All seeds are tested on the same rows, so that their errors are correlated: the standard error
    of the mean is at most the mean of their standard errors, which is used.
    """
    errors = []
    for found in comparisons:
        if found["interval"] is None:
            return 1.0
        low, high = found["interval"]
        errors.append((high - low) / (2 * NormalDist().inv_cdf(0.975)))
    error = mean(errors)
    difference = mean(found["difference"] for found in comparisons)
    if error == 0:
        return 1.0
    return 2 * (1 - NormalDist().cdf(abs(difference) / error))


def find_worse(cells: Sequence[Cell]) -> list[Cell]:
    """List the cells where LoRA is worse than the best cheap baseline, by Holm's procedure.

    Source: Holm 1979, Scandinavian Journal of Statistics 6(2).
    """
    ordered = sorted(cells, key=lambda cell: cell.p_value)
    worse = []
    for number, cell in enumerate(ordered):
        if cell.p_value > LEVEL / (len(ordered) - number):
            break
        if cell.points < 0:
            worse.append(cell)
    return worse


def _summary(cells: Sequence[Cell]) -> list[str]:
    worse = [f"{cell.data} with {cell.rows} rows" for cell in find_worse(cells)]
    old = [cell.old_points for cell in cells if cell.old_points is not None]
    lines = [f"- LoRA above the best cheap baseline of each cell: {_points(cells)}"]
    for name, is_own in (("chosen on", True), ("not chosen on", False)):
        part = [cell for cell in cells if (cell.data in CHOSEN_ON) == is_own]
        if part:
            lines.append(f"  - data sets that the defaults were {name}: {_points(part)}")
    if old:
        lines.append(
            f"- LoRA above the defaults of 0.1.0: {mean(old):+.1f} points over {len(old)} cells"
        )
    lines.append(
        "- cells where LoRA is worse than the best cheap baseline (Holm over "
        f"{len(cells)} cells, level {LEVEL}): {', '.join(worse) or 'none'}"
    )
    return lines


def _points(cells: Sequence[Cell]) -> str:
    points = [cell.points for cell in cells]
    return (
        f"{mean(points):+.1f} points over {len(cells)} cells, median {median(points):+.1f}, lowest "
        f"{min(points):+.1f}"
    )


def _table(cells: Sequence[Cell]) -> Iterable[dict[str, str]]:
    titles = {
        "tfidf": "TF-IDF",
        "linear_probe": "linear probe",
        "lora": "LoRA",
        "old_defaults": "0.1.0's defaults",
        "full": "full fine-tuning",
        "trainer": "PEFT, Trainer",
    }
    for cell in cells:
        constant = next(
            (n for n in ("majority", "constant", "most_frequent_tag") if n in cell.scores), ""
        )
        row = {"data": cell.data, "rows": str(cell.rows), "seeds": str(cell.seeds)}
        row["constant"] = f"{cell.scores[constant]:.3f}" if constant else "-"
        for name, title in titles.items():
            row[title] = f"{cell.scores[name]:.3f}" if name in cell.scores else "-"
        row["LoRA - best cheap"] = f"{cell.points:+.1f}"
        row["p"] = "<0.001" if cell.p_value < 0.001 else f"{cell.p_value:.3f}"
        yield row


def _machines(records: Sequence[Mapping[str, Any]]) -> list[str]:
    found: dict[str, int] = {}
    for record in records:
        key = f"{record['machine']}, commit {record['commit']}"
        found[key] = found.get(key, 0) + 1
    total = math.fsum(record["seconds"] for record in records)
    return [
        f"{len(records)} jobs, {total / 3600:.1f} hours of one process; two of them ran at a time, "
        "one thread each:",
        "",
        *(f"- {count} on {name}" for name, count in sorted(found.items())),
    ]
