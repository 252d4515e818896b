"""Checks of a table against a recipe: its columns, and rows without text or label."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lora_tune.config.data import DataConfig
from lora_tune.data.delimited_file import NAMES
from lora_tune.data.labels import is_missing_label
from lora_tune.data.row_reader import RowReader
from lora_tune.data.table import Row, Table
from lora_tune.errors import DataError, did_you_mean

MAY_BE_BLANK = ("system",)  # keys whose templates may be blank in a row
SHOWN_COLUMNS = 20
LONG_NAME = 20  # characters; a longer name may be a text
PROBABILITY_PREFIX = "p_"  # of a column with the probability of a label, in files of predictions


def check_columns(table: Table, config: DataConfig, task: RowReader) -> None:
    """Check that a table has the columns of the recipe.

    Raises:
        DataError: a column is missing, or holds what has no text.
    """
    wanted = list(task.columns(config))
    if config.id is not None:
        wanted.append(("id", config.id))
    table.check(column for _, column in wanted)
    for key, column in wanted:
        if column not in table.column_names:
            raise DataError(
                f"data.{key}: {table.name} has no column {column!r}"
                f"{describe_columns(column, table.column_names)}"
            )
        if column in table.unreadable:
            raise DataError(
                f"data.{key}: {table.name}: column {column!r} cannot be read as text: "
                f"{table.unreadable[column]}"
            )


def describe_columns(column: str, names: list[str]) -> str:
    """Describe the columns that there are, for a message about one that there is not."""
    shown = ", ".join(names[:SHOWN_COLUMNS]) + ", ..." * (len(names) > SHOWN_COLUMNS)
    hint = ""
    if len(names) == 1:
        delimiter = next((mark for mark in NAMES if mark in names[0]), None)
        if delimiter is not None:
            hint = (
                f"; if cells are separated by {NAMES[delimiter]}, set "
                f"data.format.delimiter={delimiter!r}"
            )
    if not hint and any(len(name) > LONG_NAME for name in names):
        hint = "; if its first row is no header, name its columns in data.format.header"
    return f"{did_you_mean(column, names)}; it has {shown or 'no columns'}{hint}"


def holds_predictions(table: Table, labels: Sequence[str]) -> bool:
    """Whether a table has the columns with probabilities that files of predictions have."""
    columns = {f"{PROBABILITY_PREFIX}{label}" for label in labels}
    return len(labels) > 1 and columns <= set(table.column_names)


def use_class_names(table: Table, train: Table) -> Table:
    """Give ClassLabel columns the order of names that they have in train."""
    same = {
        column: names
        for column, names in train.class_names.items()
        if set(table.class_names.get(column, ())) == set(names)
    }
    return replace(table, class_names={**table.class_names, **same})


def leave_out_missing(
    table: Table, config: DataConfig, task: RowReader, *, where: str
) -> tuple[Table, str | None]:
    """Refuse rows without text or label, or leave them out, as the recipe says.

    A text of several columns is missing where all of them are.

    Returns:
        The rows that have both, and a note about those that were left out.

    Raises:
        DataError: a row has no text or no label, and the recipe does not leave it out.
    """
    parts: dict[str, list[str]] = {}
    for key, column in task.columns(config):
        parts.setdefault(key, []).append(column)
    for key in MAY_BE_BLANK:
        parts.pop(key, None)
    columns = [column for names in parts.values() for column in names]
    found = (
        (index, _missing_part(row, parts, config)) for index, row in enumerate(table.rows(columns))
    )
    missing = [(index, key) for index, key in found if key is not None]
    if not missing:
        return table, None
    index, key = missing[0]
    if config.missing == "refuse":
        more = f" ({len(missing)} such rows of {len(table)})" if len(missing) > 1 else ""
        cell = table.column(parts[key][0])[index]
        shown = "nothing" if cell is None or not cell.strip() else repr(cell)
        raise DataError(
            f"{where}: {table.place(index)}, has no {key}: column "
            f"{' and '.join(map(repr, parts[key]))}: found {shown}, expected {_expected(key)}"
            f"{more}; fill it in, or leave such rows out with data.missing=drop"
        )
    kept = np.setdiff1d(np.arange(len(table)), [index for index, _ in missing])
    if not len(kept):
        raise DataError(f"{where}: every one of its {len(table)} rows has no {key}")
    counts = Counter(
        f"no {key} (column {' and '.join(map(repr, parts[key]))})" for _, key in missing
    )
    shown = ", ".join(f"{count} with {what}" for what, count in counts.items())
    return table.select(kept), f"{where}: left out {len(missing)} of {len(table)} rows: {shown}."


def _expected(key: str) -> str:
    return {"label": "a label", "messages": "a conversation"}.get(key, "text")


def _missing_part(row: Row, parts: dict[str, list[str]], config: DataConfig) -> str | None:
    """Return the key whose columns are all missing in a row; None where there is none."""
    for key, columns in parts.items():
        if key == "label":
            if is_missing_label(row[columns[0]], config.labels):
                return key
        elif all(not (row[column] or "").strip() for column in columns):
            return key
    return None
