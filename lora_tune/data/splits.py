"""The splits that a recipe names: read, labeled, tokenized and checked."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lora_tune.config.data import DataConfig, SplitConfig
from lora_tune.data.labeling import read_rows
from lora_tune.data.labels import check_spellings
from lora_tune.data.quality_checks import (
    check_balance,
    check_truncation,
    find_absent_labels,
    find_duplicates,
    find_label_leaks,
    selects_on_test,
)
from lora_tune.data.rare_classes import handle_rare_classes
from lora_tune.data.row_reader import RowReader
from lora_tune.data.rows import SPLITS, Rows, Split
from lora_tune.data.sampling import check_disjoint, sample_rows, sample_training_rows, set_aside
from lora_tune.data.sources import EMBEDDED_PREFIX, Source, open_source, read_recipe_file
from lora_tune.data.table import Table
from lora_tune.data.table_checks import (
    check_columns,
    holds_predictions,
    leave_out_missing,
    use_class_names,
)
from lora_tune.data.token_cache import tokenize_rows
from lora_tune.errors import DataError, RowError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Of train, where the source has no such split and none is named.
TEST_FRACTION = 0.2
VALIDATION_FRACTION = 0.1
# Validation rows; with fewer, the standard error of an accuracy of 0.8 is above 5 points, and
# choices between epochs or settings are a matter of chance.
MIN_SELECTION_ROWS = 50
SELECTED_ON_TEST = (
    "The validation rows are duplicates of the test rows: the best epoch was selected on the test "
    "rows, so the result of LoRA is too optimistic."
)


@dataclass(frozen=True)
class Data:
    """The splits that a model is trained, selected and tested on."""

    train: Split
    validation: Split
    test: Split
    labels: list[str]  # label names in the order of their IDs
    max_length: int  # tokens
    commit: str | None  # of a Hub dataset
    duplicates: list[str]  # warnings about texts that occur in two splits
    warnings: list[str]  # all warnings about the rows, including duplicates
    notes: list[str]  # how the rows were read and split, where a person may expect otherwise
    selection_warning: str  # where most validation rows are duplicates of test rows; else empty

    class_weights: list[float] | None  # (classes,), of the training loss; None: all are 1
    label_counts: dict[str, dict[str, int]]  # split -> label -> number of rows, entities, ...

    @property
    def can_select(self) -> bool:
        """Whether there are enough validation rows to choose an epoch or a setting by them."""
        return len(self.validation.rows.texts) >= MIN_SELECTION_ROWS

    @property
    def splits(self) -> dict[str, Split]:
        """The three splits by name."""
        return {name: getattr(self, name) for name in SPLITS}

    def fingerprint(self, splits: Sequence[str] = SPLITS) -> str:
        """Hash the texts and labels of splits, in order (SHA-256)."""
        return fingerprint_rows({name: self.splits[name].rows for name in splits})


def fingerprint_rows(splits: Mapping[str, Rows]) -> str:
    """Hash the texts and labels of splits, in order (SHA-256)."""
    digest = hashlib.sha256()
    for name, rows in splits.items():
        digest.update(f"{name} {len(rows.texts)}\n".encode())
        for text, label in zip(rows.texts, rows.label_texts, strict=True):
            digest.update(f"{len(text)} {label} {text}\n".encode())
    return digest.hexdigest()


def load_data(
    config: DataConfig,
    task: RowReader,
    tokenizer: "PreTrainedTokenizerBase | None",
    *,
    labels: list[str] | None = None,
) -> Data:
    """Read, label, split and tokenize the rows that a recipe names.

    Args:
        config: of the recipe.
        task: of the recipe.
        tokenizer: of the base model; None for a model without tokens.
        labels: the label names of a trained model; None for those of the recipe and its rows.

    Raises:
        DataError: a file, split, column, label or row is missing or invalid.
    """
    source = open_source(config)
    fractions = _choose_fractions(config, source)
    notes: list[str] = []
    tables = {
        name: _read_split(name, config, task, source=source, notes=notes)
        for name in SPLITS
        if name not in fractions
    }
    found_in = list(tables.values()) if config.rare else [tables["train"]]
    tables = {name: use_class_names(table, tables["train"]) for name, table in tables.items()}
    known = None if config.rare else labels  # with rare classes, these are some of the rows' own
    try:
        names = known or task.labels(config, found_in) or []
    except RowError as error:
        raise DataError(f"data.train: {tables['train'].place(error.row)}: {error}") from None
    if holds_predictions(tables["train"], names):
        notes.append("The training file is one of predictions: its labels may be predictions.")
    rows = {
        name: read_rows(
            name, table, config, task, labels=names, origin=_find_origin(name, config, source)
        )
        for name, table in tables.items()
    }
    if task.has_classes:
        _check_several_classes(rows["train"])
        rows, rare_notes = handle_rare_classes(rows, config.rare, needed=1 + len(fractions))
        notes += rare_notes
        _check_several_classes(rows["train"])
    # After sampling, and test first, so that naming validation rows changes no test row.
    for name in ("test", "validation"):
        if name in fractions:
            rows["train"], rows[name] = set_aside(
                name, rows["train"], fractions[name], seed=config.seed, task=task
            )
    if "test" in fractions and not config.test.fraction:
        notes.append(
            f"{config.source if isinstance(config.source, str) else 'data.source'} has no test "
            f"split: {fractions['test']:.0%} of its rows are set aside for it; to choose them, set "
            "data.test."
        )
    if config.train_rows is not None:
        rows["train"] = sample_training_rows(
            rows["train"], config.train_rows, seed=config.seed, task=task
        )
    check_disjoint(rows)
    splits = {name: tokenize_rows(rows[name], tokenizer, config, task) for name in SPLITS}
    texts = {name: rows[name].texts for name in SPLITS}
    duplicates = list(find_duplicates(texts))
    return Data(
        **splits,
        labels=rows["train"].label_names,
        max_length=config.max_length,
        commit=source.commit,
        duplicates=duplicates,
        warnings=[*duplicates, *_find_warnings(config, splits, task)],
        notes=notes,
        selection_warning=SELECTED_ON_TEST if selects_on_test(texts) else "",
        class_weights=_compute_class_weights(config, rows["train"]),
        label_counts={
            name: dict(task.label_counts(own.labels, own.label_names)) for name, own in rows.items()
        },
    )


def _choose_fractions(config: DataConfig, source: Source) -> dict[str, float]:
    """Choose the splits that are set aside from train, and the fraction of each."""
    fractions = {}
    for name in ("validation", "test"):
        split: SplitConfig = getattr(config, name)
        if split.file or split.split:
            continue
        if split.fraction:
            fractions[name] = split.fraction
        elif split != SplitConfig() and name not in source.readers:
            key = "shards" if split.samples is None else "samples"
            raise DataError(
                f"data.{name}.{key}: {source.name} has no split {name!r} to draw from; name one "
                f"with data.{name}.split or data.{name}.file, or set data.{name}.fraction instead, "
                "which takes rows of train"
            )
        elif split == SplitConfig() and not _is_in_source(name, config, source):
            fractions[name] = TEST_FRACTION if name == "test" else VALIDATION_FRACTION
    return fractions


def _is_in_source(name: str, config: DataConfig, source: Source) -> bool:
    """Whether the source has a split of this name, whose rows are not those of test."""
    if name not in source.readers:
        return False
    if name == "test" or (config.test == SplitConfig() and "test" not in source.readers):
        return True
    return _find_origin(name, config, source) != _find_origin("test", config, source)


def _check_several_classes(train: Rows) -> None:
    if len(np.unique(train.labels)) < 2:
        raise DataError(
            f"data.train: all {len(train.texts)} rows are labeled "
            f"{train.label_names[train.labels[0]]!r}, expected at least 2 classes; if the source "
            "is sorted by label, draw at random with data.train.samples"
        )


def _find_warnings(
    config: DataConfig, splits: Mapping[str, Split], task: RowReader
) -> Iterator[str]:
    """Find everything but duplicates that limits what the metrics mean."""
    if str(config.source).startswith(EMBEDDED_PREFIX):
        yield f"{config.source} is demonstration data written for lora_tune, not a benchmark."
    train = splits["train"].rows
    if task.has_classes:
        yield from check_balance(train.labels, train.label_names)
    side = config.truncation_side if task.generation is None else None
    yield from check_truncation(splits["test"].token_counts, config.max_length, side)
    counts = task.label_counts(train.labels, train.label_names)
    yield from check_spellings(counts)
    yield from find_absent_labels(counts)
    if task.has_classes:
        yield from find_label_leaks(train.texts, train.labels, train.label_names)


def _find_origin(name: str, config: DataConfig, source: Source) -> str:
    """Return the absolute path of the file that a split is, or its name in the source."""
    split: SplitConfig = getattr(config, name)
    if split.file:
        return str(_find_file(split.file, config).resolve())
    name_in_source = split.split or name
    file = source.files.get(name_in_source)
    return str(file.resolve()) if file else name_in_source


def _find_file(file: str, config: DataConfig) -> Path:
    """Find a split's file, in the folder of the source or elsewhere."""
    if isinstance(config.source, str):
        inside = Path(config.source).expanduser() / file
        if os.path.isfile(inside):  # False, not an error, for a name that is too long
            return inside
    return Path(file).expanduser()


def _read_split(
    name: str, config: DataConfig, task: RowReader, *, source: Source, notes: list[str]
) -> Table:
    """Read a split's rows, of its shard and samples.

    Args:
        notes: gets what a person should know about how the rows were read.
    """
    key = f"data.{name}"
    split: SplitConfig = getattr(config, name)
    if split.file:
        table = read_recipe_file(_find_file(split.file, config), config).check()
    else:
        table = source.read(split.split or name, key=key)
    notes += table.notes
    check_columns(table, config, task)
    table, note = leave_out_missing(table, config, task, where=key)
    notes += [note] if note else []
    return sample_rows(table, split, key=key, seed=config.seed)


def _compute_class_weights(config: DataConfig, train: Rows) -> list[float] | None:
    """Return the weight of each class in the loss; balanced: rows / (classes * rows of the class).

    Source: scikit-learn, `compute_class_weight`, after King & Zeng 2001, "Logistic Regression in
    Rare Events Data".
    """
    if config.class_weights != "balanced":
        return config.class_weights
    counts = np.bincount(train.labels, minlength=len(train.label_names))
    present = counts > 0
    return [
        float(counts.sum() / (present.sum() * count)) if count else 0.0 for count in counts.tolist()
    ]
