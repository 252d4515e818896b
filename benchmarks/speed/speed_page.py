"""The page and the plot of what speed.py measured, from results/speed.json."""

import json
from statistics import median
from typing import Any

import numpy as np
from tabulate import tabulate

from benchmarks.kept_output import RESULTS
from benchmarks.plots import standalone_svg
from benchmarks.speed.contestants import TITLES
from benchmarks.speed.step_clock import WARM_UP_STEPS
from lora_tune.report.svg import LORA, OTHER, draw_svg

Runs = dict[str, list[dict[str, Any]]]  # by contestant: what each round measured

COMPARED = [
    "tutorial",
    "tuned Trainer",
    "tuned, no dropout",
    "ours, base's dropout",
    "ours",
    "full, tuned as ours",
    "ceiling",
]
# Contestants to which rates are compared, and the headers of those columns.
REFERENCES = {
    "tutorial": "vs. Trainer",
    "tuned Trainer": "vs. tuned",
    "tuned, no dropout": "vs. tuned, no dropout",
}


def write_pages() -> None:
    """Write speed.md, and speed.svg of the latest record."""
    records = json.loads((RESULTS / "speed.json").read_text())
    (RESULTS / "speed.md").write_text(format_page(records))
    (RESULTS / "speed.svg").write_text(draw_rates(next(iter(records.values()))["runs"]))


def format_page(records: dict[str, dict[str, Any]]) -> str:
    """Format all records as Markdown, the latest first.

    Args:
        records: by processor.
    """
    latest = next(iter(records.values()))
    rows, batch, rounds = latest["rows"], latest["batch"], len(latest["runs"]["ours"])
    parts = [_format_record(name, record) for name, record in records.items()]
    plot = "![Training tokens per second](speed.svg)"
    return (
        "Made by `make speed DATA=FOLDER`, where FOLDER holds IMDb's train.parquet and "
        "test.parquet. Every contestant trains MiniLM with LoRA of rank 4 and alpha 32 on `query` "
        f"and LoRA dropout 0.01, on {rows - rows // 20} IMDb reviews of at most "
        f"{latest['max_length']} tokens, for one epoch in batches of {batch}, with one seed; all "
        "but the plain Trainer in bfloat16. The base model's own dropout is 0.1 for the plain and "
        "the tuned Trainer and where the name says so, and 0 elsewhere. The upper bound is the "
        "frozen model without adapters or optimizer, on the batches of lora_tune; like lora_tune, "
        "it computes the last layer for the first token only.\n\n"
        f"Tokens exclude padding. Values are medians over {rounds} interleaved rounds, without the "
        f"first {WARM_UP_STEPS} steps of each; a ratio is the median of the rounds' ratios, not "
        "the ratio of the medians. Cold start: from the start of the process to the end of the "
        "first step; lora_tune prepares the rows for all.\n\n"
        + "\n\n".join([parts[0], plot, *parts[1:]])
        + "\n"
    )


def _format_record(name: str, record: dict[str, Any]) -> str:
    runs, gflops = record["runs"], record["gemm_gflops"]
    references = [reference for reference in REFERENCES if reference in runs]
    rows = []
    for contestant, done in runs.items():
        rates = [run["tokens_per_second"] for run in done]
        steps = np.concatenate([run["step_seconds"] for run in done])
        rows.append(
            [
                TITLES[contestant],
                f"{median(rates):,.0f}",
                f"{min(rates):,.0f} to {max(rates):,.0f}",
                *[f"{_rate_ratio(done, runs[reference]):.2f}" for reference in references],
                f"{median(run['padding'] for run in done):.1%}",
                f"{np.quantile(steps, 0.5):.3f}",
                f"{np.quantile(steps, 0.9):.3f}",
                f"{median(run['peak_memory_bytes'] for run in done) / 1e6:,.0f}",
                f"{median(run['cold_seconds'] for run in done):.1f}",
            ]
        )
    headers = ["", "tokens/s", "range", *[REFERENCES[reference] for reference in references]]
    headers += ["padding", "step p50, s", "step p90, s", "peak memory, MB", "cold start, s"]
    full, bound = (_rate_ratio(runs["ours"], runs[other]) for other in COMPARED[-2:])
    return (
        f"## {name}\n\n"
        f"Measured at commit {record['commit'][:7]}. Matrix products of the model's shapes run at "
        f"{gflops['float32']:,.0f} GFLOP/s in float32 and at {gflops['bfloat16']:,.0f} GFLOP/s in "
        "bfloat16.\n\n"
        + tabulate(rows, headers, tablefmt="github", disable_numparse=True)
        + f"\n\nlora_tune trains LoRA at {full:.2f} times the rate of its own full fine-tuning, "
        f"and at {bound:.2f} times the rate of the upper bound (medians of the rounds' ratios)."
    )


def _rate_ratio(done: list[dict[str, Any]], reference: list[dict[str, Any]]) -> float:
    """Compare rates round by round: the state of the machine then affects both."""
    pairs = zip(done, reference, strict=True)
    return median(a["tokens_per_second"] / b["tokens_per_second"] for a, b in pairs)


def draw_rates(runs: Runs) -> str:
    """Draw the rates of all rounds and their medians, as an SVG file."""
    rates = {
        TITLES[name]: [run["tokens_per_second"] for run in done] for name, done in runs.items()
    }

    def draw(axes: Any) -> None:
        for position, values in enumerate(reversed(rates.values())):
            axes.barh(position, median(values), color=LORA, alpha=0.6)
            axes.plot(values, [position] * len(values), ".", color=OTHER)
        axes.set_yticks(range(len(rates)), list(reversed(rates)))
        axes.set_xlabel("training tokens per second, without padding")

    summary = "; ".join(f"{name} {median(values):,.0f}" for name, values in rates.items())
    return standalone_svg(draw_svg(draw, f"Training tokens per second: {summary}."))
