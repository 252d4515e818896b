"""Training speed of lora_tune beside what one would write otherwise: `make bench`.

Every contestant trains on the same rows in a fresh process; rounds interleave, so that a slow
moment hits all. Writes results/speed.json, .md and .svg, beside what other processors were measured
at.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from kept_output import RESULTS, name_processor
from pictures import stand_alone
from speed_contestant import BATCH, WARM_UP
from tabulate import tabulate

from lora_tune.drawing import LORA, OTHER, draw_picture
from lora_tune.environment import describe_environment

HERE = Path(__file__).parent
COMPARED = [
    "tutorial",
    "tuned Trainer",
    "tuned, no dropout",
    "ours, base's dropout",
    "ours",
    "full, tuned as ours",
    "ceiling",
]
# Beside which rates are told, and how the table calls it.
REFERENCES = {
    "tutorial": "of tutorial",
    "tuned Trainer": "of tuned",
    "tuned, no dropout": "of tuned, no dropout",
}
ROWS, MAX_LENGTH, ROUNDS, SEED = 128, 512, 5, 42


def main(data: str) -> None:
    """Run, compare, write."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in COMPARED}
    for number in range(ROUNDS):
        for name, done in runs.items():
            done.append(run_contestant(name, data, ROWS, MAX_LENGTH, SEED, 0))
            rate = done[-1]["tokens_per_second"]
            print(f"round {number + 1} of {ROUNDS}: {name}: {rate:,.0f} tokens/s", flush=True)
    environment = describe_environment("cpu")
    record: dict[str, Any] = {"gemm_gflops": {n: _gemm_rate(n) for n in ("float32", "bfloat16")}}
    record |= {"rows": ROWS, "max_length": MAX_LENGTH, "batch": BATCH, "runs": runs}
    record |= {name: environment[name] for name in ("bfloat16_units", "threads", "versions")}
    record["commit"] = (environment["git"] or {}).get("commit", "no known commit")
    file = RESULTS / "speed.json"
    kept = json.loads(file.read_text()) if file.is_file() else {}
    name = name_processor(environment)
    kept = {name: record} | {other: kept[other] for other in kept if other != name}
    file.write_text(json.dumps(kept, indent=1) + "\n")
    (RESULTS / "speed.md").write_text(write_page(kept))
    (RESULTS / "speed.svg").write_text(_picture(runs))


def run_contestant(name: str, data: str, *numbers: int) -> dict[str, Any]:
    """Run speed_contestant.py in a process of its own; returns what it measured."""
    command = [sys.executable, str(HERE / "speed_contestant.py"), name, data]
    done = subprocess.run(
        [*command, *map(str, numbers)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{name}: {done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _gemm_rate(dtype: str) -> float:
    """Measure matrix products of the model's own shapes, in GFLOP/s; the best of several."""
    tokens, shapes = BATCH * MAX_LENGTH, [(384, 384)] * 4 + [(384, 1536), (1536, 384)]
    pairs = [
        (
            torch.ones(tokens, a, dtype=getattr(torch, dtype)),
            torch.ones(a, b).to(getattr(torch, dtype)),
        )
        for a, b in shapes
    ]
    taken = []
    for _ in range(20):
        start = time.perf_counter()
        for x, weight in pairs:
            x @ weight
        taken.append(time.perf_counter() - start)
    return sum(2 * tokens * a * b for a, b in shapes) / min(taken) / 1e9


def write_page(kept: dict[str, dict[str, Any]]) -> str:
    """Write all that was kept as a page of Markdown, the latest first.

    Args:
        kept: what speed.json holds: a record for each processor and what it computes with.
    """
    parts = [_section(name, record) for name, record in kept.items()]
    picture = "![Training tokens a second](speed.svg)"
    return (
        "Made by `make bench DATA=DATA`, DATA a folder with IMDb's train and test .parquet: MiniLM "
        "with the tutorial's LoRA (rank 4 and alpha 32 on `query`, dropout of 0.01), "
        f"{ROWS - ROWS // 20} IMDb reviews of at most {MAX_LENGTH} tokens, {BATCH} to a step, one "
        "epoch, one seed; all but the tutorial in bfloat16. The base's dropout is 0.1 in the "
        "tutorial and the tuned Trainer, and where it is named; 0 elsewhere. The ceiling is "
        "the frozen model without adapters or optimizer, its last layer for the first token alone "
        "as in ours, on the same batches, in a loop of its own. Tokens without padding; medians "
        f"of {ROUNDS} interleaved rounds, the first {WARM_UP} steps of each left out; a ratio is "
        "the median of the rounds' ratios, not the ratio of medians. Cold: until the first step's "
        "end, the rows made ready by lora_tune for all.\n\n"
        + "\n\n".join([parts[0], picture, *parts[1:]])
        + "\n"
    )


def _section(name: str, record: dict[str, Any]) -> str:
    runs, products = record["runs"], record["gemm_gflops"]
    others = [other for other in REFERENCES if other in runs]
    rows = []
    for contestant, done in runs.items():
        rates = [run["tokens_per_second"] for run in done]
        steps = np.concatenate([run["step_seconds"] for run in done])
        rows.append(
            [
                contestant,
                f"{median(rates):,.0f}",
                f"{min(rates):,.0f} to {max(rates):,.0f}",
                *[f"{_times(done, runs[other]):.2f}" for other in others],
                f"{median(run['padding'] for run in done):.1%}",
                f"{np.quantile(steps, 0.5):.3f}",
                f"{np.quantile(steps, 0.9):.3f}",
                f"{median(run['peak_memory_bytes'] for run in done) / 1e6:,.0f}",
                f"{median(run['cold_seconds'] for run in done):.1f}",
            ]
        )
    headers = ["", "tokens/s", "range", *[REFERENCES[other] for other in others]]
    headers += ["padding", "step p50, s", "p90, s", "memory, MB", "cold, s"]
    full, ceiling = (_times(runs["ours"], runs[other]) for other in COMPARED[-2:])
    return (
        f"## {name}\n\n"
        f"At {record['commit'][:7]}; matrix products of the model's shapes at "
        f"{products['float32']:,.0f} GFLOP/s in float32, {products['bfloat16']:,.0f} in "
        "bfloat16.\n\n"
        + tabulate(rows, headers, tablefmt="github", disable_numparse=True)
        + f"\n\nOurs at {full:.2f} times the rate of full fine-tuning, and at {ceiling:.2f} times "
        "the ceiling's (medians of rounds)."
    )


def _times(done: list[dict[str, Any]], others: list[dict[str, Any]]) -> float:
    """Compare rates round by round: what the machine was like then hits both."""
    pairs = zip(done, others, strict=True)
    return median(a["tokens_per_second"] / b["tokens_per_second"] for a, b in pairs)


def _picture(runs: dict[str, list[dict[str, Any]]]) -> str:
    names = list(runs)
    rates = {name: [run["tokens_per_second"] for run in runs[name]] for name in names}

    def draw(axes: Any) -> None:
        for place, name in enumerate(reversed(names)):
            axes.barh(place, median(rates[name]), color=LORA, alpha=0.6)
            axes.plot(rates[name], [place] * ROUNDS, ".", color=OTHER)
        axes.set_yticks(range(len(names)), list(reversed(names)))
        axes.set_xlabel("training tokens a second, padding left out")

    told = "; ".join(f"{name} {median(rates[name]):,.0f}" for name in names)
    return stand_alone(draw_picture(draw, f"Training tokens a second: {told}."))


if __name__ == "__main__":
    main(*sys.argv[1:])
