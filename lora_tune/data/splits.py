"""The splits that a recipe names: read, labeled, tokenized and checked."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lora_tune.config.data import DataConfig, SplitConfig
from lora_tune.data.columns import ROW
from lora_tune.data.file_reader import read_file
from lora_tune.data.quality_checks import (
    check_balance,
    check_truncation,
    find_duplicates,
    find_label_leaks,
    selects_on_test,
)
from lora_tune.data.row_reader import RowReader
from lora_tune.data.rows import SPLITS, Rows, Split
from lora_tune.data.sampling import check_disjoint, sample_rows, sample_training_rows, set_aside
from lora_tune.data.sources import EMBEDDED_PREFIX, Source, open_source
from lora_tune.data.token_cache import tokenize_rows
from lora_tune.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

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
    selection_warning: str  # where most validation rows are duplicates of test rows; else empty

    class_weights: list[float] | None  # (classes,), of the training loss; None: all are 1
    label_counts: dict[str, dict[str, int]]  # split -> label -> number of rows, entities, ...

    @property
    def splits(self) -> dict[str, Split]:
        """The three splits by name."""
        return {name: getattr(self, name) for name in SPLITS}

    def fingerprint(self, splits: Sequence[str] = SPLITS) -> str:
        """Hash the texts and labels of splits, in order (SHA-256)."""
        digest = hashlib.sha256()
        for name, split in ((name, self.splits[name]) for name in splits):
            digest.update(f"{name} {len(split.rows.texts)}\n".encode())
            for text, label in zip(split.rows.texts, split.rows.label_texts, strict=True):
                digest.update(f"{len(text)} {label} {text}\n".encode())
        return digest.hexdigest()


def load_data(config: DataConfig, task: RowReader, tokenizer: "PreTrainedTokenizerBase") -> Data:
    """Read, label, split and tokenize the rows that a recipe names.

    Raises:
        DataError: a file, split, column, label or row is missing or invalid.
    """
    source = open_source(config)
    raw = {"train": _read_split("train", config.train, config, task, source)}
    for name in ("validation", "test"):
        split: SplitConfig = getattr(config, name)
        if split.file or split.split or not split.fraction:
            raw[name] = _read_split(name, split, config, task, source)
    labels = task.labels(config, raw["train"]) or []

    def label_rows(name: str) -> Rows:
        origin = _find_origin(name, getattr(config, name), config, source)
        where = f"data.{name}"
        return _label_rows(name, raw[name], config, task, labels, origin=origin, where=where)

    rows = {"train": label_rows("train")}
    if task.has_classes and len(np.unique(rows["train"].labels)) < 2:
        raise DataError(
            f"data.train: all {len(rows['train'].texts)} rows are labeled "
            f"{labels[rows['train'].labels[0]]!r}, expected at least 2 classes; if the source is "
            "sorted by label, draw at random with data.train.samples"
        )
    for name in raw:
        if name not in rows:
            rows[name] = label_rows(name)
    # After sampling, and test first, so that naming validation rows changes no test row.
    for name in ("test", "validation"):
        if name not in rows:
            rows["train"], rows[name] = set_aside(name, rows["train"], config, task)
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
        labels=labels,
        max_length=config.max_length,
        commit=source.commit,
        duplicates=duplicates,
        warnings=[*duplicates, *_find_warnings(config, splits, task)],
        selection_warning=SELECTED_ON_TEST if selects_on_test(texts) else "",
        class_weights=_compute_class_weights(config, rows["train"]),
        label_counts={name: dict(task.label_counts(rows[name].labels, labels)) for name in SPLITS},
    )


def load_file(
    path: Path,
    config: DataConfig,
    task: RowReader,
    *,
    labels: list[str],
    tokenizer: "PreTrainedTokenizerBase",
) -> Split:
    """Read, label and tokenize the rows of one file.

    Args:
        path: of the file.
        config: has the columns.
        task: of the rows.
        labels: label names in the order of their IDs.
        tokenizer: of the model.

    Raises:
        DataError: the file, a column, a label or a row is missing or invalid.
    """
    raw = _add_row_numbers(read_file(path), config, task, where=str(path))
    rows = _label_rows(
        "data", raw, config, task, labels, origin=str(path.resolve()), where=str(path)
    )
    return tokenize_rows(rows, tokenizer, config, task)


def _find_warnings(
    config: DataConfig, splits: Mapping[str, Split], task: RowReader
) -> Iterator[str]:
    """Find everything but duplicates that limits what the metrics mean."""
    if config.source.startswith(EMBEDDED_PREFIX):
        yield f"{config.source} is demonstration data written for lora_tune, not a benchmark."
    train = splits["train"].rows
    if task.has_classes:
        yield from check_balance(train.labels, train.label_names)
    side = config.truncation_side if task.generation is None else None
    yield from check_truncation(splits["test"].token_counts, config.max_length, side)
    if task.has_classes:
        yield from find_label_leaks(train.texts, train.labels, train.label_names)


def _find_origin(name: str, split: SplitConfig, config: DataConfig, source: Source) -> str:
    """Return the absolute path of the file that a split is, or its name in the source."""
    if not split.file:
        name_in_source = split.split or name
        file = source.files.get(name_in_source)
        return str(file.resolve()) if file else name_in_source
    inside = Path(config.source).expanduser() / split.file
    return str((inside if inside.is_file() else Path(split.file).expanduser()).resolve())


def _read_split(
    name: str, split: SplitConfig, config: DataConfig, task: RowReader, source: Source
) -> "Dataset":
    """Read a split's raw rows, of its shard and samples, with the column ROW."""
    key = f"data.{name}"
    if split.file:
        rows = read_file(Path(_find_origin(name, split, config, source)))
    else:
        rows = source.read(split.split or name, key=key)
    rows = _add_row_numbers(rows, config, task, where=key)
    return sample_rows(rows, split, key=key, seed=config.seed)


def _add_row_numbers(
    rows: "Dataset", config: DataConfig, task: RowReader, *, where: str
) -> "Dataset":
    """Check that rows have the columns of the recipe, and add the column ROW."""
    for key, column in task.columns(config):
        if column not in rows.column_names:
            near = did_you_mean(column, rows.column_names)
            raise DataError(
                f"data.{key}: {where} has no column {column!r}{near}; it has "
                f"{', '.join(rows.column_names)}"
            )
    return rows.add_column(ROW, np.arange(len(rows)))


def _label_rows(
    name: str,
    raw: "Dataset",
    config: DataConfig,
    task: RowReader,
    labels: list[str],
    *,
    origin: str,
    where: str,
) -> Rows:
    texts, inputs, label_ids, label_texts = task.read(raw, config, labels, where=where)
    return Rows(name, origin, list(raw[ROW]), texts, inputs, label_ids, label_texts, labels)


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
