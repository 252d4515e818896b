"""Unlabeled rows, read from the command line, a file or standard input."""

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from lora_tune.data.file_reader import read_file
from lora_tune.data.preprocessing import Preprocessor, Row, format_row
from lora_tune.errors import DataError, did_you_mean, first_line

INPUT_FORMATS = ("txt", "csv", "tsv", "jsonl", "json", "parquet")
STREAM = "-"  # standard input or output
DELIMITERS = {"csv": ",", "tsv": "\t"}
MAX_CELL_LENGTH = 2**31 - 1  # characters; the csv module's default of 2**17 is too few for texts


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
) -> list[InputRow]:
    """Read the rows of a file, or of standard input.

    Args:
        source: a path, or `-`.
        preprocessor: of the adapter.
        column: the input's name for the one column that the adapter needs; None for the adapter's
            own name. A txt file has a text in each line, and no columns.
        file_format: one of INPUT_FORMATS; None for the path's extension, or txt for standard
            input.

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
    path = Path(source)
    extension = "txt" if source == STREAM else path.suffix.removeprefix(".").lower()
    file_format = file_format or extension
    if file_format not in INPUT_FORMATS:
        found = f"the extension .{file_format}" if file_format else "no extension"
        raise DataError(
            f"{source}: found {found}, expected {', '.join(INPUT_FORMATS)}; set the format with "
            "--format"
        )
    rows = _read_columns(source, path, wanted, file_format)
    if not rows:
        raise DataError(f"{source}: has no rows")
    return [_preprocess(row, preprocessor, names) for row in rows]


def _read_columns(
    source: str, path: Path, wanted: Sequence[str], file_format: str
) -> list[InputRow]:
    """Read rows in one of INPUT_FORMATS, with all their columns."""
    if file_format in ("json", "parquet"):
        if source == STREAM:
            raise DataError(
                f"--format {file_format}: cannot be read from standard input; name a file"
            )
        return list(_read_table(path, wanted, file_format))
    with _open_text(source) as file:
        if file_format == "txt":
            return _read_lines(file, wanted, source)
        if file_format == "jsonl":
            rows = list(_read_jsonl(file, wanted[0]))
            good = [row for row in rows if row.problem is None]
            if good:
                names = dict.fromkeys(name for row in good for name in row.columns)
                _check_columns(source, wanted, list(names))
            return rows
        return list(_read_delimited(file, wanted, source, DELIMITERS[file_format]))


def _read_lines(file: IO[str], wanted: Sequence[str], source: str) -> list[InputRow]:
    if len(wanted) > 1:
        raise DataError(
            f"{source}: lines of text have no columns, expected {', '.join(wanted)}; use a csv, "
            "tsv, jsonl, json or parquet file, with --format where its extension is another"
        )
    lines = (line.rstrip("\r\n") for line in file)
    return [InputRow(number, {wanted[0]: line}) for number, line in enumerate(lines)]


def _read_jsonl(file: IO[str], column: str) -> Iterator[InputRow]:
    for number, line in enumerate(line for line in file if line.strip()):
        try:
            columns = json.loads(line)
        except json.JSONDecodeError as error:
            problem = f"not JSON: {error.msg} at column {error.colno}"
        except (ValueError, RecursionError) as error:  # too long a number, too deep a nesting
            problem = f"cannot be parsed as JSON: {first_line(error)}"
        else:
            if isinstance(columns, dict):
                yield InputRow(number, columns)
                continue
            problem = f"found {type(columns).__name__}, expected an object with {column!r}"
        yield InputRow(number, {column: line.rstrip("\r\n")}, problem=problem)


def _read_delimited(
    file: IO[str], wanted: Sequence[str], source: str, delimiter: str
) -> Iterator[InputRow]:
    csv.field_size_limit(MAX_CELL_LENGTH)
    lines = list(file)
    header, next_line = _read_cells(lines, 0, delimiter)
    _check_columns(source, wanted, header or [])
    assert header is not None
    number = 0
    while next_line < len(lines):
        line = next_line + 1  # counts from 1
        cells, next_line = _read_cells(lines, next_line, delimiter)
        if cells is None:
            problem = f"line {line}: a quotation mark is not closed"
            yield InputRow(number, {wanted[0]: lines[line - 1].rstrip("\r\n")}, problem=problem)
            number += 1
            continue
        if not cells:  # an empty line
            continue
        columns = dict(zip(header, cells, strict=False))
        if len(cells) != len(header):
            problem = f"line {line}: found {len(cells)} cells, expected {len(header)}"
            yield InputRow(number, columns, problem=problem)
        else:
            yield InputRow(number, columns)
        number += 1


def _read_cells(lines: Sequence[str], start: int, delimiter: str) -> tuple[list[str] | None, int]:
    """Read one row; one whose quotation mark is not closed is a single line, and costs no other.

    Returns:
        Its cells, or None where a quotation mark is not closed; and the index of the next line.
    """
    rest = (lines[i] for i in range(start, len(lines)))
    table = csv.reader(rest, delimiter=delimiter, strict=True)
    try:
        cells = next(table, [])
    except csv.Error:
        return None, start + 1
    return cells, start + table.line_num


def _read_table(path: Path, wanted: Sequence[str], file_format: str) -> Iterator[InputRow]:
    rows = read_file(path, file_format)
    _check_columns(str(path), wanted, rows.column_names)
    for number, columns in enumerate(rows):
        yield InputRow(number, columns)


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


def _check_columns(source: str, wanted: Sequence[str], names: Sequence[str]) -> None:
    for column in wanted:
        if column not in names:
            advice = "; name it with --column" if len(wanted) == 1 else ""
            raise DataError(
                f"{source}: has no column {column!r}{did_you_mean(column, names)}; it has "
                f"{', '.join(names) or 'no columns'}{advice}"
            )


@contextmanager
def _open_text(source: str) -> Iterator[IO[str]]:
    # A byte that is not UTF-8 becomes a surrogate, so that only its own row is bad.
    if source == STREAM:
        sys.stdin.reconfigure(  # type: ignore[union-attr]
            encoding="utf-8", errors="surrogateescape"
        )
        yield sys.stdin
        return
    try:
        with open(source, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield file
    except OSError as error:
        near = did_you_mean(Path(source).name, _neighbors(Path(source)))
        raise DataError(f"{source}: {error.strerror} (looked from {Path.cwd()}){near}") from None


def _neighbors(path: Path) -> list[str]:
    return [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
