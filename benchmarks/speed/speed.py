"""Training speed of lora_tune and of transformers.Trainer with PEFT: `make speed DATA=FOLDER`.

Every contestant trains on the same rows in a fresh process. Rounds are interleaved, so that a slow
moment of the machine affects all of them. Adds a record of this processor to results/speed.json;
writes results/speed.md and speed.svg.
"""

import json
import sys
import time
from typing import Any

import torch

from benchmarks.fresh_process import run_module
from benchmarks.kept_output import RESULTS, name_processor
from benchmarks.speed.contestants import BATCH, TITLES
from benchmarks.speed.speed_page import COMPARED, write_pages
from lora_tune.system.environment import describe_environment

ROWS, MAX_LENGTH, ROUNDS, SEED = 128, 512, 5, 42


def main(data: str) -> None:
    """Measure, then write the record and the page.

    Args:
        data: a folder with IMDb's train.parquet and test.parquet.
    """
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in COMPARED}
    for number in range(ROUNDS):
        for name, done in runs.items():
            done.append(
                run_contestant(
                    name, data, rows=ROWS, max_length=MAX_LENGTH, seed=SEED, evaluations=0
                )
            )
            rate = done[-1]["tokens_per_second"]
            title = TITLES[name]
            print(f"round {number + 1} of {ROUNDS}: {title}: {rate:,.0f} tokens/s", flush=True)
    environment = describe_environment("cpu")
    record: dict[str, Any] = {
        "gemm_gflops": {dtype: _measure_gflops(dtype) for dtype in ("float32", "bfloat16")}
    }
    record |= {"rows": ROWS, "max_length": MAX_LENGTH, "batch": BATCH, "runs": runs}
    record |= {name: environment[name] for name in ("bfloat16_units", "threads", "versions")}
    record["commit"] = (environment["git"] or {}).get("commit", "unknown")
    file = RESULTS / "speed.json"
    records = json.loads(file.read_text()) if file.is_file() else {}
    processor = name_processor(environment)
    others = {name: records[name] for name in records if name != processor}
    file.write_text(json.dumps({processor: record} | others, indent=1) + "\n")
    write_pages()


def run_contestant(
    name: str, data: str, *, rows: int, max_length: int, seed: int, evaluations: int
) -> dict[str, Any]:
    """Train a contestant in a fresh process; returns what it measured.

    Args:
        evaluations: how often validation rows are evaluated; 0: never, nor test rows.
    """
    numbers = map(str, (rows, max_length, seed, evaluations))
    return run_module("benchmarks.speed.speed_contestant", name, data, *numbers)


def _measure_gflops(dtype: str) -> float:
    """Measure matrix products of the model's own shapes, in GFLOP/s; the best of several."""
    tokens, shapes = BATCH * MAX_LENGTH, [(384, 384)] * 4 + [(384, 1536), (1536, 384)]
    torch_dtype = getattr(torch, dtype)
    factors = [
        (torch.ones(tokens, a, dtype=torch_dtype), torch.ones(a, b).to(torch_dtype))
        for a, b in shapes
    ]
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        for x, weight in factors:
            x @ weight
        seconds.append(time.perf_counter() - start)
    return sum(2 * tokens * a * b for a, b in shapes) / min(seconds) / 1e9


if __name__ == "__main__":
    main(*sys.argv[1:])
