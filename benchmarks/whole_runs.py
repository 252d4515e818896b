"""What a whole run costs with many rows, and what a second run of a recipe saves.

`make runs DATA=FOLDER MORE=FILE`; writes results/whole_runs.md. Each run is `lora-tune train` in a
fresh process, with a cache of its own.
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
from kept_output import RESULTS
from tabulate import tabulate
from transformers import AutoTokenizer

from lora_tune.base import find_base
from lora_tune.recipe import ModelConfig

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SCALES, ROUNDS, AGAIN = (1_000, 20_000), 1, 3
TEST_ROWS = 100


def main(data: str, more: str) -> None:
    """Run, compare, write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_rows(data, more, folder)
        scales = [[f"{rows:,}", *_scale(folder, rows)] for _ in range(ROUNDS) for rows in SCALES]
        seconds: dict[str, list[float]] = {"first": [], "second": []}
        for number in range(AGAIN):
            for which, done in seconds.items():
                cache = folder / f"again-{number}"
                changes = [*_rows(folder, 200, 200), "data.max_length=256"]
                done.append(_train(folder, cache, changes)[1])
                print(f"{which} run: {done[-1]:.1f} s", flush=True)
    headers = ["rows", "tokens", "training, s", "microseconds a token", "whole run, s", "a token"]
    table = tabulate(scales, headers, tablefmt="github", disable_numparse=True)
    first, second = seconds["first"], seconds["second"]
    ratios = [b / a for a, b in zip(first, second, strict=True)]
    (RESULTS / "whole_runs.md").write_text(
        "Made by `make runs DATA=DATA MORE=MORE`: the recipe minilm_imdb_lora for one epoch, at "
        f"most 32 tokens a row, {TEST_ROWS} test rows; each run with an empty cache.\n\n{table}\n\n"
        "The same with 200 training and 200 test rows of at most 256 tokens, run twice; the second "
        "run recalls tokens, features and the base's answers: "
        f"{median(first):.1f} s, then {median(second):.1f} s, {median(ratios):.2f} times "
        f"(medians of {AGAIN} pairs; ratios {min(ratios):.2f} to {max(ratios):.2f}).\n"
    )


def _write_rows(data: str, more: str, folder: Path) -> None:
    files = [more, Path(data) / "train.parquet", Path(data) / "test.parquet"]
    rows = pd.concat([pd.read_parquet(file, columns=["text", "label"]) for file in files])
    rows = rows.drop_duplicates("text").sample(frac=1, random_state=0)
    assert len(rows) >= max(SCALES) + 500, f"found {len(rows)} rows"
    rows[:400].to_parquet(folder / "test.parquet")
    rows[400:500].to_parquet(folder / "validation.parquet")
    rows[500:].to_parquet(folder / "train.parquet")


def _rows(folder: Path, train: int, test: int) -> list[str]:
    changes = [f"data.source={folder}", f"data.train.samples={train}", f"data.test.samples={test}"]
    changes += ["data.validation.split=validation", "data.validation.fraction=null"]
    return [*changes, "training.num_train_epochs=1"]


def _scale(folder: Path, rows: int) -> list[str]:
    changes = [*_rows(folder, rows, TEST_ROWS), "data.max_length=32"]
    with tempfile.TemporaryDirectory() as cache:
        cost, seconds = _train(folder, Path(cache), changes)
    tokens = _count_tokens(folder, rows)
    print(f"{rows} rows: {seconds:.1f} s", flush=True)
    trained = cost["train_seconds"]
    each = [f"{1e6 * took / tokens:.0f}" for took in (trained, seconds)]
    return [f"{tokens:,}", f"{trained:.1f}", each[0], f"{seconds:.1f}", each[1]]


def _train(folder: Path, cache: Path, changes: list[str]) -> tuple[dict[str, Any], float]:
    """Run the command line; returns what it wrote of its cost, and the seconds it took."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "lora_tune", "train", "minilm_imdb_lora", *changes]
        environment = os.environ | {"LORA_TUNE_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
        start = time.perf_counter()
        done = subprocess.run(
            [*command, "--output", f"{output}/run"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - start
        if done.returncode:
            sys.exit(done.stderr)
        return json.loads((Path(output) / "run" / "comparison.json").read_text()), seconds


def _count_tokens(folder: Path, rows: int) -> int:
    """Count the tokens of so many rows, by the mean of the first thousand."""
    tokenizer = AutoTokenizer.from_pretrained(find_base(ModelConfig(MINILM)).folder)
    texts = pd.read_parquet(folder / "train.parquet")["text"][:1000].tolist()
    lengths = [min(32, len(ids)) for ids in tokenizer(texts)["input_ids"]]
    return round(rows * sum(lengths) / len(lengths))


if __name__ == "__main__":
    main(*sys.argv[1:])
