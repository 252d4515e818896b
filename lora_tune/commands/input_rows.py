"""Unlabeled rows, read from the command line, a file or standard input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lora_tune.data.file_reader import FORMATS, STREAM
from lora_tune.data.given_rows import read_given_file
from lora_tune.data.preprocessing import Preprocessor, Row, format_row
from lora_tune.data.table import Table
from lora_tune.data.table_checks import describe_columns
from lora_tune.errors import DataError


@dataclass(frozen=True)
class InputRow:
    """A row as it was read, with the input made from it, or the problem that prevents that."""

    number: int  # from 0
    columns: Mapping[str, Any]
    text: str = ""  # as people read it
    task_input: Any = None  # see `Task.preprocess_row`
    problem: str | None = None


def make_rows(rows: Sequence[Row], preprocessor: Preprocessor) -> list[InputRow]:
    """Make rows from texts, or from columns, on the command line.

    Args:
        rows: texts, or columns by name.
        preprocessor: of the adapter.

    Raises:
        DataError: they do not have the columns that the adapter needs.
    """
    needed = preprocessor.columns
    for row in rows:
        if isinstance(row, str) and len(needed) > 1:
            raise DataError(
                f"--text: found one text, expected the columns {', '.join(needed)}; use --row "
                f"{' '.join(f'{name}=...' for name in needed)}, or a file with --input"
            )
        if isinstance(row, Mapping) and row.keys() != set(needed):
            raise DataError(
                f"--row: found the columns {', '.join(row)}, expected {', '.join(needed)}"
            )
    columns = [{needed[0]: row} if isinstance(row, str) else row for row in rows]
    read = [InputRow(number, row) for number, row in enumerate(columns)]
    return [_preprocess(row, preprocessor, dict(zip(needed, needed, strict=True))) for row in read]


def read_rows(
    source: str,
    preprocessor: Preprocessor,
    column: str | None = None,
    file_format: str | None = None,
) -> tuple[list[InputRow], tuple[str, ...]]:
    """Read the rows of a file, or of standard input.

    Args:
        source: a path, or `-`.
        preprocessor: of the adapter.
        column: the input's name for the one column that the adapter needs; None for the adapter's
            own name. A txt file has a text in each line, and no columns.
        file_format: one of FORMATS; None for the path's extension, or txt for standard input.

    Returns:
        The rows, those that cannot be used among them; and notes about how the file was read.

    Raises:
        DataError: the file or a column does not exist, or nothing can be read.
    """
    needed = preprocessor.columns
    if column is not None and len(needed) > 1:
        raise DataError(
            f"--column: names a single column, but the adapter needs {', '.join(needed)}; rename "
            "the columns of the input to these instead"
        )
    names = dict(zip(needed, needed if column is None else [column], strict=True))
    wanted = list(names.values())
    extension = "txt" if source == STREAM else Path(source).suffix.removeprefix(".").lower()
    file_format = file_format or extension
    if file_format not in FORMATS:
        found = f"the extension .{file_format}" if file_format else "no extension"
        raise DataError(
            f"{source}: found {found}, expected {', '.join(FORMATS)}; set the format with --format"
        )
    if file_format == "txt" and len(wanted) > 1:
        raise DataError(
            f"{source}: lines of text have no columns, expected {', '.join(wanted)}; use a csv, "
            "tsv, jsonl, json, parquet or xlsx file, with --format where its extension is another"
        )
    table = read_given_file(
        source, preprocessor.data, wanted, file_format=file_format, text_column=wanted[0]
    )
    good = len(table) > len(table.problems)
    for name in wanted if good else ():
        if name not in table.column_names:
            advice = "; name it with --column" if len(wanted) == 1 else ""
            raise DataError(
                f"{source}: has no column {name!r}{describe_columns(name, table.column_names)}"
                f"{advice}"
            )
        if name in table.unreadable:
            raise DataError(f"{source}: column {name!r}: {table.unreadable[name]}")
    rows = [
        InputRow(number, cells, problem=_find_problem(table, number, wanted))
        for number, cells in enumerate(table.rows())
    ]
    return [_preprocess(row, preprocessor, names) for row in rows], table.notes


def _find_problem(table: Table, number: int, columns: Sequence[str]) -> str | None:
    bad_cells = (table.bad_cells.get(name, {}).get(number) for name in columns)
    problem = table.problems.get(number) or next(filter(None, bad_cells), None)
    if problem is None or table.lines is None:
        return problem
    return f"line {table.lines[number]}: {problem}"


def _preprocess(row: InputRow, preprocessor: Preprocessor, names: Mapping[str, str]) -> InputRow:
    """Turn a row into an input.

    Args:
        row: as read.
        preprocessor: of the adapter.
        names: column that the adapter needs -> column of the row.
    """
    if row.problem is not None:
        return row
    columns = {needed: row.columns.get(name) for needed, name in names.items()}
    try:
        task_input = preprocessor.preprocess(columns)
    except DataError as error:
        return replace(row, problem=str(error))
    return replace(row, text=format_row(columns), task_input=task_input)
