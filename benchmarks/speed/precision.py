"""Training in float32 and in bfloat16, and what `training.precision: auto` chooses.

`make precision DATA=IMDb` runs `lora-tune train` in fresh processes, on the processor as it is and
with its bfloat16 instructions hidden from torch. Writes results/precision.md.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from tabulate import tabulate

from benchmarks.kept_output import RESULTS, name_processor
from lora_tune.system.environment import describe_environment, find_device

ROUNDS = 3
HIDDEN = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
PRECISIONS = ("float32", "bfloat16")


def main(imdb: str) -> None:
    """Run, then write the page.

    Args:
        imdb: a folder with IMDb's train.parquet and test.parquet.
    """
    shorter = ["data.test.samples=20", "training.num_train_epochs=1"]
    long = ["minilm_imdb_lora", f"data.source={imdb}", *shorter]
    short = ["quickstart", *shorter]
    rows = [
        _measure("reviews, batches of 16", [*short, "data.train.samples=320"], {}),
        _measure("IMDb, 256 tokens, batches of 8", [*long, "data.train.samples=120"], {}),
        _measure("IMDb, 256 tokens, batches of 8", [*long, "data.train.samples=24"], HIDDEN),
    ]
    text = tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)
    hidden = " ".join(f"{name}={value}" for name, value in HIDDEN.items())
    (RESULTS / "precision.md").write_text(
        "# Precision\n\n"
        f"Made by `make precision DATA=IMDb` on {name_processor(describe_environment('cpu'))}: "
        f"training seconds of `lora-tune train`, medians of {ROUNDS} rounds in which float32 and "
        "bfloat16 take turns. The ratio is bfloat16 to float32 in each round: median, lowest and "
        f"highest. Hidden: `{hidden}`.\n\n{text}\n"
    )


def _measure(name: str, overrides: list[str], hidden: dict[str, str]) -> dict[str, str]:
    """Train in both precisions by turns, and once in what auto chooses; returns a table row."""
    seconds: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for _ in range(ROUNDS):
        for precision in PRECISIONS:
            run = _train([*overrides, f"training.precision={precision}"], hidden)
            seconds[precision].append(run["train_seconds"])
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    chosen = _train(overrides, hidden)["autocast"] or "float32"
    row = {"rows": name, "bfloat16 instructions": "hidden" if hidden else "as they are"}
    row |= {f"{key}, s": f"{median(values):.1f}" for key, values in seconds.items()}
    row["ratio"] = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    print(row | {"auto": chosen}, flush=True)
    return row | {"auto": chosen}


def _train(overrides: list[str], hidden: dict[str, str]) -> dict[str, Any]:
    """Run `lora-tune train`; returns its training seconds and its autocast."""
    assert find_device() == "cpu"
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "lora_tune", "train", *overrides]
        done = subprocess.run(
            [*command, "--output", f"{place}/run"],
            env=os.environ | {"HF_HUB_OFFLINE": "1"} | hidden,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(done.stderr)
        files = [Path(place, "run", name) for name in ("comparison.json", "environment.json")]
        comparison, environment = (json.loads(file.read_text()) for file in files)
    return {"autocast": environment["autocast"], "train_seconds": comparison["train_seconds"]}


if __name__ == "__main__":
    main(sys.argv[1])
