"""The cells of the quality benchmarks: real rows drawn for a data set, a size and a seed."""

import csv
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lora_tune.data.splits import VALIDATION_FRACTION

if TYPE_CHECKING:
    from lora_tune.run_context import RunContext

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
TOKENS = 128  # of a row at most
INTENTS = 10  # of the smaller banking77

Row = list[str]


@dataclass(frozen=True)
class DataSet:
    """A data set as files of rows, and what a recipe says about it."""

    read: Callable[[Path], tuple[list[Row], list[Row]]]  # a folder -> training and test rows
    columns: list[str]
    task: str = "sequence_classification"
    label: str = "label"
    text_pair: str | None = None


def _read_parquet(folder: Path) -> tuple[list[Row], list[Row]]:
    import pyarrow.parquet

    splits = []
    for name in ("train", "test"):
        table = pyarrow.parquet.read_table(folder / "imdb" / f"{name}.parquet").to_pylist()
        splits.append([[row["text"], str(row["label"])] for row in table])
    return splits[0], splits[1]


def _read_csv(folder: Path, columns: Sequence[str]) -> tuple[list[Row], list[Row]]:
    splits = []
    for name in ("train", "test"):
        with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            splits.append([[row[column] for column in columns] for row in csv.DictReader(file)])
    return splits[0], splits[1]


def _read_tweets(folder: Path) -> tuple[list[Row], list[Row]]:
    return _read_csv(folder / "airline_tweets", ("text", "airline_sentiment"))


def _read_banking(folder: Path) -> tuple[list[Row], list[Row]]:
    return _read_csv(folder / "banking77", ("text", "category"))


def _read_few_intents(folder: Path) -> tuple[list[Row], list[Row]]:
    train, test = _read_banking(folder)
    kept = set(sorted({intent for _, intent in train})[:INTENTS])
    return [row for row in train if row[1] in kept], [row for row in test if row[1] in kept]


def _read_emotions(folder: Path) -> tuple[list[Row], list[Row]]:
    names = (folder / "goemotions" / "labels.txt").read_text(encoding="utf-8").split()
    splits = []
    for split in ("train", "test"):
        lines = (folder / "goemotions" / f"{split}.tsv").read_text(encoding="utf-8").splitlines()
        rows = [line.split("\t")[:2] for line in lines]
        splits.append([[t, json.dumps([names[int(i)] for i in ids.split(",")])] for t, ids in rows])
    return splits[0], splits[1]


def _read_similarity(folder: Path) -> tuple[list[Row], list[Row]]:
    splits = []
    for split in ("train", "test"):
        lines = (folder / "sts" / f"{split}.tsv").read_text(encoding="utf-8").splitlines()
        rows = [line.split("\t")[:3] for line in lines]
        splits.append([[first, second, score] for score, first, second in rows])
    return splits[0], splits[1]


def _read_entities(folder: Path) -> tuple[list[Row], list[Row]]:
    splits = []
    for split in ("train", "test"):
        text = (folder / "wnut17" / f"{split}.conll").read_text(encoding="utf-8")
        lines = ["" if not line.strip() else line for line in text.split("\n")]
        sentences = "\n".join(lines).strip("\n").split("\n\n")
        rows = []
        for sentence in sentences:
            pairs = [line.split("\t") for line in sentence.split("\n") if line]
            if pairs:
                rows.append([json.dumps([w for w, _ in pairs]), json.dumps([t for _, t in pairs])])
        splits.append(rows)
    return splits[0], splits[1]


def _read_reviews(_: Path) -> tuple[list[Row], list[Row]]:
    from lora_tune.config.data import DataConfig
    from lora_tune.data.sources import open_source

    source = open_source(DataConfig(source="embedded:movie_reviews", label="label"))
    splits = []
    for name in ("train", "test"):
        table = source.read(name, key=f"data.{name}")
        splits.append(
            [list(row) for row in zip(table.column("text"), table.column("label"), strict=True)]
        )
    return splits[0], splits[1]


TEXT = ["text", "label"]
DATA_SETS = {
    "imdb": DataSet(_read_parquet, TEXT),
    "airline_tweets": DataSet(_read_tweets, TEXT),
    "banking10": DataSet(_read_few_intents, TEXT),
    "banking77": DataSet(_read_banking, TEXT),
    "goemotions": DataSet(_read_emotions, TEXT, task="multi_label_classification"),
    "sts": DataSet(
        _read_similarity,
        ["text", "other", "label"],
        task="sequence_regression",
        text_pair="other",
    ),
    "wnut17": DataSet(_read_entities, TEXT, task="token_classification"),
    "reviews": DataSet(_read_reviews, TEXT),
}


@contextmanager
def prepare_cell(
    folder: Path, name: str, *, rows: int, seed: int, test_rows: int, overrides: Sequence[str] = ()
) -> Iterator["RunContext"]:
    """Draw rows, and prepare a training on them.

    Args:
        folder: of all data sets.
        name: of one of DATA_SETS.
        rows: to draw for training and validation together.
        seed: of the draw, and of the training.
        test_rows: at most; the same for all seeds.
        overrides: of a recipe that sets no key but data, task, base model and seed.
    """
    from lora_tune.tasks.recipes import load_recipe
    from lora_tune.training.preparation import prepare

    with tempfile.TemporaryDirectory() as place:
        recipe = write_recipe(folder, name, Path(place), rows=rows, seed=seed, test_rows=test_rows)
        yield prepare(
            load_recipe(str(recipe), overrides),
            checkpoints=Path(place) / "checkpoints",
            show=lambda _: None,
        )


def write_recipe(
    folder: Path, name: str, place: Path, *, rows: int, seed: int, test_rows: int
) -> Path:
    """Write drawn rows and their recipe into a folder; see `prepare_cell`."""
    data_set = DATA_SETS[name]
    train, test = data_set.read(folder)
    drawn = random.Random(seed).sample(train, min(rows, len(train)))
    held_out = random.Random(0).sample(test, min(test_rows, len(test)))
    data: dict[str, Any] = {"source": "data", "label": data_set.label, "max_length": TOKENS}
    if labels := _find_labels(data_set, train):  # few rows may lack a label of the test rows
        data["labels"] = labels
    if data_set.text_pair:
        data["text_pair"] = data_set.text_pair
    files = place / "data"
    files.mkdir()
    splits = {"train": drawn, "test": held_out}
    counts = Counter(label for *_, label in drawn)
    if data_set.task == "sequence_classification" and min(counts.values()) == 1:
        # Such a class cannot be in two splits, which lora_tune refuses to cut.
        held = round(VALIDATION_FRACTION * len(drawn))
        splits |= {"train": drawn[held:], "validation": drawn[:held]}
    for split, own in splits.items():
        with (files / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([data_set.columns, *own])
    recipe = {
        "task": data_set.task,
        "model": {"name": MINILM},
        "data": data | {"source": str(files)},
        "training": {"seed": seed},
    }
    path = place / f"{name}_{rows}.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def _find_labels(data_set: DataSet, rows: Sequence[Row]) -> list[str]:
    """List the labels of rows; none where they are numbers."""
    if data_set.task == "sequence_regression":
        return []
    labels = [label for *_, label in rows]
    if data_set.task == "sequence_classification":
        return sorted(set(labels))
    return sorted({name for text in labels for name in json.loads(text)})
