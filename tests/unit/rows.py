"""Rows in files and in memory, for the tests of data and tasks."""

import json
from typing import ClassVar

import numpy as np

from lora_tune.config.data import SplitConfig
from lora_tune.data.rows import Rows, Split
from lora_tune.evaluation.model_evaluation import evaluate_outputs

VALIDATION = SplitConfig(split="validation")
TAGS = ["O", "B-person", "I-person", "B-place", "I-place"]


class Table(list):
    """Rows that give a column by its name, as a dataset does, but with values of any type."""

    features: ClassVar = {"label": None}

    def __getitem__(self, key):
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)


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
