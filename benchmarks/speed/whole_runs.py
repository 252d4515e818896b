"""What whole runs cost with many rows, and what a second run saves.

`make whole-runs DATA=FOLDER MORE=FILE` runs `lora-tune train` in fresh processes, each with its own
cache. Writes results/whole_runs.md.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
from tabulate import tabulate
from transformers import AutoTokenizer

from benchmarks.kept_output import RESULTS
from lora_tune.config.model import ModelConfig
from lora_tune.models.checkpoint import resolve_checkpoint

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
TRAIN_ROWS = (1_000, 20_000)
PAIRS = 3  # of a first and a second run
TEST_ROWS, VALIDATION_ROWS = 100, 100
MAX_LENGTH = 32  # tokens


def main(data: str, more: str) -> None:
    """Run, then write the page.

    Args:
        data: a folder with IMDb's train.parquet and test.parquet.
        more: a .parquet file with further reviews.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_rows(data, more, folder)
        scales = [_measure_scale(folder, rows) for rows in TRAIN_ROWS]
        seconds: dict[str, list[float]] = {"first": [], "second": []}
        for number in range(PAIRS):
            for which, done in seconds.items():
                cache = folder / f"cache-{number}"
                overrides = [*_name_rows(folder, 200, 200), "data.max_length=256"]
                done.append(_train(cache, overrides)[1])
                print(f"{which} run: {done[-1]:.1f} s", flush=True)
    headers = ["train rows", "tokens", "training, s", "training, microseconds per token"]
    headers += ["whole run, s", "whole run, microseconds per token"]
    table = tabulate(scales, headers, tablefmt="github", disable_numparse=True)
    first, second = seconds["first"], seconds["second"]
    ratios = [b / a for a, b in zip(first, second, strict=True)]
    (RESULTS / "whole_runs.md").write_text(
        "Made by `make whole-runs DATA=FOLDER MORE=FILE`: the recipe minilm_imdb_lora for one "
        f"epoch, at most {MAX_LENGTH} tokens per row, {TEST_ROWS} test rows; each run with an "
        f"empty cache.\n\n{table}\n\n"
        "The same recipe with 200 training and 200 test rows of at most 256 tokens, run twice; the "
        "second run takes tokens, features and the base model's outputs from the cache: "
        f"{median(first):.1f} s, then {median(second):.1f} s, a ratio of {median(ratios):.2f} "
        f"(medians of {PAIRS} pairs; ratios {min(ratios):.2f} to {max(ratios):.2f}).\n"
    )


def _write_rows(data: str, more: str, folder: Path) -> None:
    files = [more, Path(data) / "train.parquet", Path(data) / "test.parquet"]
    rows = pd.concat([pd.read_parquet(file, columns=["text", "label"]) for file in files])
    rows = rows.drop_duplicates("text").sample(frac=1, random_state=0)
    assert len(rows) >= max(TRAIN_ROWS) + 500, f"found {len(rows)} rows"
    rows[:400].to_parquet(folder / "test.parquet")
    rows[400 : 400 + VALIDATION_ROWS].to_parquet(folder / "validation.parquet")
    rows[400 + VALIDATION_ROWS :].to_parquet(folder / "train.parquet")


def _name_rows(folder: Path, train: int, test: int) -> list[str]:
    return [
        f"data.source={folder}",
        f"data.train.samples={train}",
        f"data.test.samples={test}",
        "data.validation.split=validation",
        "data.validation.fraction=null",
        "training.num_train_epochs=1",
    ]


def _measure_scale(folder: Path, rows: int) -> list[str]:
    """Run the recipe on so many training rows; returns a row of the table."""
    overrides = [*_name_rows(folder, rows, TEST_ROWS), f"data.max_length={MAX_LENGTH}"]
    with tempfile.TemporaryDirectory() as cache:
        comparison, whole_seconds = _train(Path(cache), overrides)
    print(f"{rows} rows: {whole_seconds:.1f} s", flush=True)
    tokens = _count_tokens(folder, rows)
    cells = [f"{rows:,}", f"{tokens:,}"]
    for seconds in (comparison["train_seconds"], whole_seconds):
        cells += [f"{seconds:.1f}", f"{1e6 * seconds / tokens:.0f}"]
    return cells


def _train(cache: Path, overrides: list[str]) -> tuple[dict[str, Any], float]:
    """Run `lora-tune train`; returns its comparison.json, and the seconds that it took."""
    with tempfile.TemporaryDirectory() as output:
        run = Path(output) / "run"
        command = [sys.executable, "-m", "lora_tune", "train", "minilm_imdb_lora", *overrides]
        start = time.perf_counter()
        done = subprocess.run(
            [*command, "--output", str(run)],
            env=os.environ | {"LORA_TUNE_CACHE": str(cache), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - start
        if done.returncode:
            sys.exit(done.stderr)
        return json.loads((run / "comparison.json").read_text()), seconds


def _count_tokens(folder: Path, rows: int) -> int:
    """Estimate the tokens of so many rows from the first thousand."""
    tokenizer = AutoTokenizer.from_pretrained(resolve_checkpoint(ModelConfig(MINILM)).folder)
    texts = pd.read_parquet(folder / "train.parquet")["text"][:1000].tolist()
    lengths = [min(MAX_LENGTH, len(ids)) for ids in tokenizer(texts)["input_ids"]]
    return round(rows * sum(lengths) / len(lengths))


if __name__ == "__main__":
    main(*sys.argv[1:])
