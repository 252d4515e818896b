"""Rows that a user asks about, read from the command line, a file or standard input."""

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from lora_tune.choices import INPUT_FORMATS
from lora_tune.errors import DataError, first_line
from lora_tune.intake import Intake, Row, show_row
from lora_tune.sources import read_file
from lora_tune.suggestions import did_you_mean

STREAM = "-"  # standard input or output
DELIMITERS = {"csv": ",", "tsv": "\t"}
LONGEST_CELL = 2**31 - 1  # characters; the module's own limit of 2**17 is less than a long text


@dataclass(frozen=True)
class InputRow:
    """A row as it was read: what is made of it, or why nothing can be."""

    number: int  # from 0
    columns: Mapping[str, Any]
    text: str = ""  # what it asks, as people read it
    given: Any = None  # the task's input
    fault: str | None = None


def make_rows(rows: Sequence[Row], intake: Intake) -> list[InputRow]:
    """Make rows of texts, or of columns.

    Raises:
        DataError: they are not what is asked for.
    """
    asked = intake.columns
    for row in rows:
        if isinstance(row, str) and len(asked) > 1:
            raise DataError(
                f"--text: found one text, expected the columns {', '.join(asked)}; give them with "
                f"--row {' '.join(f'{name}=...' for name in asked)}, or in a file with --input"
            )
        if isinstance(row, Mapping) and row.keys() != set(asked):
            raise DataError(
                f"--row: found the columns {', '.join(row)}, expected {', '.join(asked)}"
            )
    columns = [{asked[0]: row} if isinstance(row, str) else row for row in rows]
    read = [InputRow(number, row) for number, row in enumerate(columns)]
    return [_take(row, intake, dict(zip(asked, asked, strict=True))) for row in read]


def read_rows(
    source: str, intake: Intake, column: str | None = None, form: str | None = None
) -> list[InputRow]:
    """Read the rows of a file, or of standard input.

    Args:
        source: a path, or `-`.
        column: that stands for the one that is asked for; None for its own name. A txt file holds
            a text in each line, and no columns.
        form: one of INPUT_FORMATS; None for the path's suffix, or txt from standard input.

    Raises:
        DataError: the file or a column of it is not there, or nothing in it can be read.
    """
    asked = intake.columns
    if column is not None and len(asked) > 1:
        raise DataError(
            f"--column: is for one column, but the adapter asks for {', '.join(asked)}; name the "
            "input's columns so"
        )
    places = dict(zip(asked, asked if column is None else [column], strict=True))
    wanted = list(places.values())
    path = Path(source)
    form = form or ("txt" if source == STREAM else path.suffix.removeprefix(".").lower())
    if form not in INPUT_FORMATS:
        raise DataError(
            f"{source}: found a {form or 'nameless'} file, expected {', '.join(INPUT_FORMATS)}; "
            "say which it is with --format"
        )
    if form in ("json", "parquet"):
        if source == STREAM:
            raise DataError(f"--format {form}: cannot be read from standard input; give a file")
        rows = list(_read_table(path, wanted, form))
    else:
        with _open_text(source) as file:
            if form == "txt":
                if len(wanted) > 1:
                    raise DataError(
                        f"{source}: lines of text have no columns, expected {', '.join(wanted)}; "
                        "give them as csv, tsv, jsonl, json or parquet, named with --format"
                    )
                lines = (line.rstrip("\r\n") for line in file)
                rows = [InputRow(number, {wanted[0]: line}) for number, line in enumerate(lines)]
            elif form == "jsonl":
                rows = list(_read_jsonl(file, wanted[0]))
                good = [row for row in rows if row.fault is None]
                if good:
                    names = dict.fromkeys(name for row in good for name in row.columns)
                    _check_columns(source, wanted, list(names))
            else:
                rows = list(_read_delimited(file, wanted, source, DELIMITERS[form]))
    if not rows:
        raise DataError(f"{source}: holds no rows")
    return [_take(row, intake, places) for row in rows]


def _read_jsonl(file: IO[str], column: str) -> Iterator[InputRow]:
    for number, line in enumerate(line for line in file if line.strip()):
        try:
            columns = json.loads(line)
        except json.JSONDecodeError as error:
            fault = f"not JSON: {error.msg} at column {error.colno}"
        except (ValueError, RecursionError) as error:  # a number too long, lists too deep
            fault = f"not JSON that can be read: {first_line(error)}"
        else:
            if isinstance(columns, dict):
                yield InputRow(number, columns)
                continue
            fault = f"found {type(columns).__name__}, expected an object with {column!r}"
        yield InputRow(number, {column: line.rstrip("\r\n")}, fault=fault)


def _read_delimited(
    file: IO[str], wanted: Sequence[str], source: str, delimiter: str
) -> Iterator[InputRow]:
    csv.field_size_limit(LONGEST_CELL)
    lines = list(file)
    header, read = _read_cells(lines, 0, delimiter)
    _check_columns(source, wanted, header or [])
    assert header is not None
    number = 0
    while read < len(lines):
        line = read + 1
        cells, read = _read_cells(lines, read, delimiter)
        if cells is None:
            fault = f"line {line}: its quotation marks do not close"
            yield InputRow(number, {wanted[0]: lines[line - 1].rstrip("\r\n")}, fault=fault)
            number += 1
            continue
        if not cells:  # an empty line
            continue
        columns = dict(zip(header, cells, strict=False))
        if len(cells) != len(header):
            fault = f"line {line}: found {len(cells)} cells, expected {len(header)}"
            yield InputRow(number, columns, fault=fault)
        else:
            yield InputRow(number, columns)
        number += 1


def _read_cells(lines: Sequence[str], start: int, delimiter: str) -> tuple[list[str] | None, int]:
    """Read one row; where it has no end, it is one line long, so that it costs no other row.

    Returns:
        Its cells, or None where it has no end; and the number of the line after it.
    """
    rest = (lines[i] for i in range(start, len(lines)))
    table = csv.reader(rest, delimiter=delimiter, strict=True)
    try:
        cells = next(table, [])
    except csv.Error:
        return None, start + 1
    return cells, start + table.line_num


def _read_table(path: Path, wanted: Sequence[str], form: str) -> Iterator[InputRow]:
    rows = read_file(path, form)
    _check_columns(str(path), wanted, rows.column_names)
    for number, columns in enumerate(rows):
        yield InputRow(number, columns)


def _take(row: InputRow, intake: Intake, places: Mapping[str, str]) -> InputRow:
    """Make an input of a row that was read.

    Args:
        places: the row's column for each that is asked for.
    """
    if row.fault is not None:
        return row
    asked = {name: row.columns.get(place) for name, place in places.items()}
    try:
        return replace(row, text=show_row(asked), given=intake.take(asked))
    except DataError as error:
        return replace(row, fault=str(error))


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
    # A byte that is not UTF-8 becomes a surrogate, which costs its row, and none of its neighbours.
    if source == STREAM:
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
        yield sys.stdin
        return
    try:
        with open(source, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield file
    except OSError as error:
        near = did_you_mean(Path(source).name, _neighbours(Path(source)))
        raise DataError(f"{source}: {error.strerror} (looked from {Path.cwd()}){near}") from None


def _neighbours(path: Path) -> list[str]:
    return [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
