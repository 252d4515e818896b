"""Rows in files and in memory, for the tests of data and tasks."""

import json

import numpy as np

from lora_tune.config.data import SplitConfig
from lora_tune.data.cell_text import cell_text
from lora_tune.data.labeling import read_rows
from lora_tune.data.rows import Rows, Split
from lora_tune.data.table import Record, collect_table
from lora_tune.data.typed_rows import convert_dataset
from lora_tune.evaluation.model_evaluation import evaluate_outputs

VALIDATION = SplitConfig(split="validation")
TAGS = ["O", "B-person", "I-person", "B-place", "I-place"]


def make_table(rows, name="rows"):
    """Make a table of rows with values of any type, as if they were read from a jsonl file."""
    cells = [{key: cell_text(value) for key, value in row.items()} for row in rows]
    return collect_table((Record(None, row) for row in cells), name)


def make_typed_table(rows):
    """Make a table of a dataset's rows, whose features are kept."""
    return convert_dataset(rows, "rows")


def read(task, table, config, labels):
    """Read a whole table: texts, inputs, labels and their texts."""
    rows = read_rows("test", table, config, task, labels=labels, origin="rows")
    return rows.texts, rows.inputs, rows.labels, rows.label_texts


def write_splits(folder, **splits):
    """Write the rows of each split to a jsonl file of its name."""
    for name, rows in splits.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines)
    return folder


def make_split(labels, names, *, inputs=None):
    """Make a test split of labels (rows, ...) that is not tokenized.

    Args:
        names: of the labels.
        inputs: of each row; None for texts.
    """
    numbers = list(range(len(labels)))
    texts = [str(number) for number in numbers]
    rows = Rows("test", "", numbers, texts, inputs or texts, labels, texts, names)
    return Split(rows, None, np.ones(len(labels)))


def evaluate(task, outputs, labels, names):
    """Evaluate one output for each row, (rows, numbers)."""
    return evaluate_outputs(list(outputs[:, None]), make_split(labels, names), task)


def random_tags(seed, rows=40):
    """Draw numbers of TAGS for rows of 1 to 14 words."""
    random = np.random.default_rng(seed)
    return [random.integers(0, len(TAGS), random.integers(1, 15)) for _ in range(rows)]


def as_objects(rows):
    """Make an array (rows,) of arrays of unequal length."""
    array = np.empty(len(rows), dtype=object)
    for number, row in enumerate(rows):
        array[number] = row
    return array
