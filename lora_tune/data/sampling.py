"""Rows drawn from a split: shards, random samples, and rows set aside from training rows."""

import numpy as np

from lora_tune.config.data import SplitConfig
from lora_tune.data.row_reader import RowReader
from lora_tune.data.rows import SPLITS, Rows
from lora_tune.data.table import Table
from lora_tune.errors import DataError

SHOWN = 10  # classes in a message


def sample_rows(rows: Table, split: SplitConfig, *, key: str, seed: int) -> Table:
    """Select a split's shard, then draw its samples.

    Args:
        rows: all rows of the split.
        split: has the shard and the number of samples.
        key: the recipe key of the split, for the error.
        seed: of the draw.

    Raises:
        DataError: there are too few rows.
    """
    if split.shards is not None:
        assert split.shard is not None
        rows = rows.select(np.array_split(np.arange(len(rows)), split.shards)[split.shard])
    if split.samples is not None:
        if split.samples > len(rows):
            raise DataError(
                f"{key}.samples: asks for {split.samples} rows, found {len(rows)}; for all rows, "
                f"set {key}.samples=null"
            )
        rows = rows.select(np.random.default_rng(seed).permutation(len(rows))[: split.samples])
    if not len(rows):
        raise DataError(f"{key}: found no rows")
    return rows


def set_aside(
    name: str, rows: Rows, fraction: float, *, seed: int, task: RowReader
) -> tuple[Rows, Rows]:
    """Split training rows in two, stratified by class.

    Args:
        name: of the split to create, `validation` or `test`.
        rows: of train.
        fraction: of the rows to set aside.
        seed: of the draw.
        task: knows whether rows have classes.

    Returns:
        The remaining training rows, and the rows of the new split.

    Raises:
        DataError: there are too few rows, in all or of a class.
    """
    from sklearn.model_selection import train_test_split

    total = len(rows.texts)
    size = round(fraction * total)
    counts = np.bincount(rows.labels) if task.has_classes else np.array([total])
    present = int((counts > 0).sum())
    if size < present or counts[counts > 0].min() < 2 or total - size < present:
        raise DataError(_describe_small(name, fraction, rows, task=task, size=size))
    kept, held_out = train_test_split(
        np.arange(total),
        test_size=size,
        random_state=seed,
        stratify=rows.labels if task.has_classes else None,
    )
    return rows.select("train", kept), rows.select(name, held_out)


def sample_training_rows(rows: Rows, count: int, *, seed: int, task: RowReader) -> Rows:
    """Draw training rows; fewer rows of the same seed are a subset of more rows.

    Args:
        rows: of train, without those that were set aside.
        count: of rows to draw.
        seed: of the draw.
        task: knows whether rows have classes.

    Raises:
        DataError: there are too few rows, or all rows drawn have the same class.
    """
    available = len(rows.texts)
    if count > available:
        raise DataError(
            f"data.train_rows: asks for {count} rows, found {available} besides the validation and "
            "test rows; set a smaller number"
        )
    order = np.random.default_rng(seed).permutation(available)
    drawn = rows.select("train", order[:count].tolist())
    if task.has_classes and len(np.unique(drawn.labels)) < 2:
        raise DataError(
            f"data.train_rows: all {count} rows drawn are labeled {drawn.label_texts[0]!r}; set a "
            "larger number"
        )
    return drawn


def check_disjoint(rows: dict[str, Rows]) -> None:
    """Check that no row is in two splits: nothing is trained or selected on test rows.

    Args:
        rows: split -> its rows.

    Raises:
        DataError: a row is in two splits.
    """
    split_of: dict[tuple[str, int], str] = {}
    for name in SPLITS:
        shared = [split_of[key] for key in rows[name].row_keys if key in split_of]
        if shared:
            raise DataError(
                f"data.{name}: {len(shared)} of its {len(rows[name].texts)} rows are also rows of "
                f"{shared[0]} ({rows[name].origin}); name another split or file, or set "
                f"data.{name}.fraction to take rows from train"
            )
        split_of |= dict.fromkeys(rows[name].row_keys, name)


def _describe_small(name: str, fraction: float, rows: Rows, *, task: RowReader, size: int) -> str:
    """Describe why a fraction of the rows leaves one side without rows of some class."""
    total = len(rows.texts)
    by_label = task.label_counts(rows.labels, rows.label_names) if task.has_classes else {}
    counts = {label: count for label, count in by_label.items() if count}
    shown = ", ".join(f"{label} {count}" for label, count in list(counts.items())[:SHOWN])
    more = f", and {len(counts) - SHOWN} more classes" if len(counts) > SHOWN else ""
    found = f" ({shown}{more})" if shown else ""
    enough = np.ceil(100 * len(counts) / total) / 100 if counts else 1
    if counts and min(counts.values()) >= 2 and size < len(counts) and enough <= 0.5:
        return (
            f"data.{name}.fraction: {fraction} of {total} training rows{found} is {size} rows for "
            f"{len(counts)} classes; set data.{name}.fraction={enough:g} or more"
        )
    missing = "rows of some class" if counts else "rows"
    return (
        f"data.{name}.fraction: {fraction} of {total} training rows{found} leaves one side "
        f"without {missing}; name rows with data.{name}.file or data.{name}.split"
    )
