"""Whether lora_tune is as accurate as Trainer with PEFT: `make equality DATA="IMDb TWEETS"`.

Both train the same rows for the same number of steps, from the same initial weights, with the same
settings, and keep their last weights. Whatever else differs is switched one part at a time. Adds
each training to results/equality.json when it ends, and continues from there after an interruption;
writes results/equality.md.
"""

import json
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.kept_output import name_processor
from benchmarks.quality.batch_mix import measure_batches
from benchmarks.quality.equality_page import EXACT, RECORDS, read_record, write_page
from benchmarks.quality.equality_training import (
    ALPHA,
    RANK,
    SETTINGS,
    TARGET_MODULES,
    Side,
    train,
)
from lora_tune.system.environment import describe_environment, quiet_libraries

if TYPE_CHECKING:
    from lora_tune.run_context import RunContext

SEEDS = [1, 2, 3, 4, 5]
TRAIN_ROWS = 1000
PEERS_TOKENS = 256  # of a row at most in peers.py, for which batches are measured without training
UNUSED_ROWS = 100  # lora_tune requires validation rows; here they select nothing
# Of a recipe, to have the defaults of TrainingArguments; no epoch is selected.
DEFAULTS: dict[str, Any] = {
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "adam_beta2": 0.999,
    "eval_strategy": "no",
    "load_best_model_at_end": False,
}
BEST_EPOCH = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
GROUPED, RANDOM = ({"train_sampling_strategy": name} for name in ("group_by_length", "random"))
IN_FLOAT32 = {"bf16": False, "num_train_epochs": 1}  # where only rounding errors may differ


@dataclass(frozen=True)
class DataSet:
    """The rows to train and evaluate on: the first of each file."""

    name: str
    suffix: str  # of the files train and test
    label: str  # column
    labels: tuple[str, ...]
    max_length: int  # tokens
    test_rows: int


DATA_SETS = [
    DataSet("tweets", "csv", "airline_sentiment", ("negative", "neutral", "positive"), 64, 1000),
    DataSet("IMDb", "parquet", "label", ("negative", "positive"), 128, 500),
]
SIDES = [
    Side("Trainer, group_by_length", GROUPED, is_plain=True),
    Side("lora_tune"),
]
# For a data set whose rows differ in length.
FURTHER_SIDES = [
    Side("lora_tune, random order", RANDOM),
    Side("Trainer, random order", RANDOM, is_plain=True),
    Side("lora_tune, fast=false", {"fast": False}),
]
# What peers.md calls the same settings.
AS_AMONG_PEERS = Side("lora_tune, 900 rows, best epoch", BEST_EPOCH, sets_rows_aside=True)
# One epoch in float32 without dropout, of the same batches: the same weights, but for rounding.
EXACT_SIDES = [
    Side(f"{EXACT}Trainer", IN_FLOAT32, is_plain=True, has_own_batches=True, has_dropout=False),
    Side(f"{EXACT}lora_tune", IN_FLOAT32, has_dropout=False),
    Side(f"{EXACT}lora_tune, fast=false", IN_FLOAT32 | {"fast": False}, has_dropout=False),
]


def main(imdb: str, tweets: str) -> None:
    """Train what is not recorded yet, then write the page.

    Args:
        imdb: a folder with train.parquet and test.parquet.
        tweets: a folder with train.csv and test.csv.
    """
    quiet_libraries()
    record = read_record()
    runs: list[dict[str, Any]] = record["runs"]
    environment = describe_environment("cpu")
    shared = {
        "processor": name_processor(environment),
        "versions": {name: environment["versions"][name] for name in ("torch", "peft")},
    }
    folders = dict(zip(DATA_SETS, (tweets, imdb), strict=True))
    with tempfile.TemporaryDirectory() as parent:

        @cache
        def load(data: DataSet, sets_rows_aside: bool) -> "RunContext":
            folder = Path(parent) / f"{data.name}-{sets_rows_aside}"
            folder.mkdir()
            return _load_context(data, folders[data], folder, sets_rows_aside=sets_rows_aside)

        for data in DATA_SETS:
            record["batches"][data.name] = _describe_batches(load(data, False))
        for data, side, seed in _list_trainings():
            key = {"data": data.name, "side": side.name, "seed": seed}
            if any(key.items() <= run.items() for run in runs):
                continue
            run = key | {"max_length": data.max_length} | shared
            runs.append(run | train(side, load(data, side.sets_rows_aside), seed))
            RECORDS.write_text(json.dumps(record) + "\n")
            print(*key.values(), f"accuracy {runs[-1]['accuracy']:.3f}", flush=True)
    write_page()


def _list_trainings() -> "list[tuple[DataSet, Side, int]]":
    tweets, imdb = DATA_SETS
    trainings = [(tweets, side, SEEDS[0]) for side in EXACT_SIDES]
    compared = [(tweets, SIDES), (imdb, [*SIDES, AS_AMONG_PEERS])]
    for data, sides in (*compared, *((tweets, [side]) for side in FURTHER_SIDES)):
        trainings += [(data, side, seed) for seed in SEEDS for side in sides]
    return trainings


def _load_context(
    data: DataSet, source: str, folder: Path, *, sets_rows_aside: bool
) -> "RunContext":
    """Load the first rows of each file, in order.

    Args:
        source: the folder of the files.
        folder: an empty one, for rows and checkpoints.
    """
    from benchmarks.lora_training import load_context

    train, test = (_read_rows(data, Path(source), split) for split in ("train", "test"))
    files = {
        "train": train[:TRAIN_ROWS],
        "validation": train[TRAIN_ROWS:][:UNUSED_ROWS],
        "test": test[: data.test_rows],
    }
    for split, rows in files.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    if sets_rows_aside:
        del files["validation"]
    context = load_context(
        "minilm_imdb_lora",
        [
            f"data.source={folder / 'train.jsonl'}",
            *(f"data.{split}.{key}=null" for split in files for key in ("samples", "split")),
            *(f"data.{split}.file={folder / split}.jsonl" for split in files),
            f"data.labels={json.dumps(data.labels)}",
            f"data.max_length={data.max_length}",
            "data.truncation_side=right",
            "model.dropout=null",
            f"lora.rank={RANK}",
            f"lora.alpha={ALPHA}",
            f"lora.target_modules={json.dumps(TARGET_MODULES)}",
            *(
                f"training.{key}={json.dumps(value)}"
                for key, value in (SETTINGS | DEFAULTS).items()
            ),
        ],
        checkpoints=folder / "checkpoints",
    )
    assert context.recipe.lora.dropout == 0.0  # PEFT's default
    assert len(context.data.train.encoded) == TRAIN_ROWS * (0.9 if sets_rows_aside else 1)
    return context


def _read_rows(data: DataSet, folder: Path, split: str) -> list[dict[str, Any]]:
    from pyarrow import csv, parquet

    path = folder / f"{split}.{data.suffix}"
    if data.suffix == "parquet":
        table = parquet.read_table(path)
    else:
        table = csv.read_csv(path, parse_options=csv.ParseOptions(newlines_in_values=True))
    table = table.slice(0, max(TRAIN_ROWS + UNUSED_ROWS, data.test_rows))
    texts, labels = (table[name].to_pylist() for name in ("text", data.label))
    return [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]


def _describe_batches(context: "RunContext") -> dict[str, Any]:
    """Measure the batches of each order, and the entropy of the class shares, in nats."""
    import numpy as np

    train = context.data.train
    shares = np.bincount(train.rows.labels) / len(train.rows.labels)
    return {
        "class_entropy": float(-(shares * np.log(shares)).sum()),
        "orders": measure_batches(
            np.minimum(train.token_counts, PEERS_TOKENS),
            train.rows.labels,
            SETTINGS["per_device_train_batch_size"],
        ),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
