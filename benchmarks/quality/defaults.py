"""The defaults compared with other values, one at a time: `make defaults DATA=FOLDER`.

Trains LoRA with each on several data sets and sizes. What results/defaults.json has already is not
trained again; MINUTES=N begins no training after that time. Writes results/defaults.md.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any
from unittest import mock

from tabulate import tabulate

from benchmarks.kept_output import RESULTS, name_processor
from benchmarks.quality.cells import prepare_cell
from benchmarks.quality.parallel_jobs import run_jobs
from benchmarks.quality.quality_page import CHOSEN_ON
from lora_tune.system.environment import describe_environment, find_device
from lora_tune.training.head_initialization import STRENGTHS

RECORD = RESULTS / "defaults.json"
SEEDS = (11, 12)  # not those of the table of record
SIZES = (100, 300)
TEST_ROWS = 500
PROBE = "lora_tune.training.head_initialization.STRENGTHS"
# The name of each variant -> what it overrides in the recipe.
VARIANTS: dict[str, tuple[str, ...]] = {
    "defaults": (),
    "learning rate 2e-4": ("training.learning_rate=2e-4",),
    "learning rate 5e-4": ("training.learning_rate=5e-4",),
    "learning rate 1e-3": ("training.learning_rate=1e-3",),
    "random head": ("lora.init_head_weights=default",),
    "head of the architecture": ("model.pooling=model",),
    "rank 4": ("lora.rank=4", "lora.alpha=8"),
    "rank 16": ("lora.rank=16", "lora.alpha=32"),
    "query and value": ("lora.target_modules=[query,value]",),
    "no dropout": ("lora.dropout=0",),
    "weight decay 0.1": ("training.weight_decay=0.1",),
    "batch of 8": ("training.per_device_train_batch_size=8",),
}
# The name of each variant -> a constant, and another value of it.
CONSTANTS: dict[str, tuple[str, Any]] = {
    "weaker probe": (PROBE, {kind: value / 10 for kind, value in STRENGTHS.items()}),
    "stronger probe": (PROBE, {kind: value * 10 for kind, value in STRENGTHS.items()}),
    "150 steps": ("lora_tune.training.budget.MOST_STEPS", 150),
    "300 steps": ("lora_tune.training.budget.FEWEST_STEPS", 300),
}


@dataclass(frozen=True)
class Job:
    """One training."""

    data: str
    rows: int
    seed: int
    variant: str


def main(folder: Path, minutes: float) -> None:
    """Train what is not recorded yet, then write the page.

    Args:
        folder: of the data sets.
        minutes: after which no further training begins.
    """
    write_page(run_jobs(list_jobs(), run_job, folder, record=RECORD, minutes=minutes))


def list_jobs() -> Iterator[Job]:
    """List all trainings."""
    for seed in SEEDS:
        for variant in (*VARIANTS, *CONSTANTS):
            for rows in SIZES:
                for data in CHOSEN_ON:
                    yield Job(data, rows, seed, variant)


def run_job(job: Job, folder: Path) -> dict[str, Any]:
    """Train LoRA and evaluate it on the test rows."""
    from lora_tune.training.training import train_lora

    constant = CONSTANTS.get(job.variant)
    with (
        mock.patch(*constant) if constant else nullcontext(),
        prepare_cell(
            folder,
            job.data,
            rows=job.rows,
            seed=job.seed,
            test_rows=TEST_ROWS,
            overrides=VARIANTS.get(job.variant, ()),
        ) as context,
    ):
        start = time.perf_counter()
        lora, _ = train_lora(context, job.seed)
    metric = context.primary_metric
    return {
        "results": {metric.name: round(lora.result.evaluation.metrics[metric.name], 4)},
        "lower_is_better": metric.lower_is_better,
        "seconds": round(time.perf_counter() - start, 1),
        "machine": name_processor(describe_environment(find_device())),
    }


def write_page(records: Sequence[Mapping[str, Any]]) -> None:
    """Write results/defaults.md."""
    by_job = {(r["data"], r["rows"], r["seed"], r["variant"]): r for r in records}
    rows = []
    for variant in (*VARIANTS, *CONSTANTS):
        points: dict[str, list[float]] = {}
        for (data, size, seed, name), record in by_job.items():
            base = by_job.get((data, size, seed, "defaults"))
            if name == variant and base is not None:
                points.setdefault(data, []).append(_difference(record, base))
        if points:
            every = [value for values in points.values() for value in values]
            row: dict[str, object] = {"": variant, "trainings": len(every)}
            row |= {d: f"{mean(points[d]):+.1f}" if d in points else "-" for d in CHOSEN_ON}
            rows.append(row | {"all": f"{mean(every):+.1f}"})
    lines = [
        "# Defaults",
        "",
        "Made by `make defaults DATA=FOLDER`: the points that LoRA gains or loses where one "
        "default is replaced, on the same rows with the same seed; for sts in hundredths of its "
        f"mean absolute error. {' and '.join(map(str, SIZES))} rows, {len(SEEDS)} seeds, "
        f"{TEST_ROWS} test rows.",
        "",
        tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True),
        "",
        *sorted({f"- {record['machine']}" for record in records}),
        "",
    ]
    (RESULTS / "defaults.md").write_text("\n".join(lines), encoding="utf-8")


def _difference(record: Mapping[str, Any], base: Mapping[str, Any]) -> float:
    (found,), (own,) = record["results"].values(), base["results"].values()
    return (-100 if record["lower_is_better"] else 100) * (found - own)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
