"""Rows of a file, good or bad, classified in their order and written out beside what they held."""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lora_tune.choices import INPUT_FORMATS, OUTPUT_FORMATS
from lora_tune.errors import DataError, first_line
from lora_tune.predictor import Predictor
from lora_tune.sources import read_file
from lora_tune.suggestions import did_you_mean
from lora_tune.tasks import Answer
from lora_tune.texts import text_fault

STREAM = "-"  # standard input or output
WINDOW_ROWS = 1024  # answered together, batched by length; then written
DELIMITERS = {"csv": ",", "tsv": "\t"}
SHOWN_FAULTS = 20
LONGEST_CELL = 2**31 - 1  # characters; the module's own limit of 2**17 is less than a long text
KEPT_AS = "input."  # before the name of an input column that an output column bears too


@dataclass(frozen=True)
class InputRow:
    """A row as it was read: its text, or why it has none."""

    number: int  # from 0
    columns: Mapping[str, Any]
    text: str = ""
    fault: str | None = None


WriteRow = Callable[[InputRow, Answer | None], None]


def make_rows(texts: Sequence[str]) -> list[InputRow]:
    """Make rows of texts alone."""
    return [_row(number, {"text": text}, text) for number, text in enumerate(texts)]


def read_rows(source: str, column: str, form: str | None = None) -> list[InputRow]:
    """Read the rows of a file, or of standard input.

    Args:
        source: a path, or `-`.
        column: of the texts; a txt file holds a text in each line, and no columns.
        form: one of INPUT_FORMATS; None for the path's suffix, or txt from standard input.

    Raises:
        DataError: the file or its column is not there, or nothing in it can be read.
    """
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
        rows = list(_read_table(path, column, form))
    else:
        with _open_text(source) as file:
            if form == "txt":
                rows = make_rows([line.rstrip("\r\n") for line in file])
            elif form == "jsonl":
                rows = list(_read_jsonl(file, column))
                if rows and all(column not in row.columns for row in rows):
                    raise _no_column(source, column, list(rows[0].columns))
            else:
                rows = list(_read_delimited(file, column, source, DELIMITERS[form]))
    if not rows:
        raise DataError(f"{source}: holds no rows")
    return rows


def predict_rows(predictor: Predictor, rows: Sequence[InputRow], write: WriteRow) -> None:
    """Answer rows, and hand each on with its prediction, in order and as soon as can be.

    Args:
        write: takes every row; its prediction is None where the row is bad.
    """
    from tqdm import tqdm

    with tqdm(total=len(rows), desc="predict", unit="row", disable=None, leave=False) as bar:
        for start in range(0, len(rows), WINDOW_ROWS):
            window = rows[start : start + WINDOW_ROWS]
            predictions = iter(predictor.predict([r.text for r in window if r.fault is None]))
            for row in window:
                write(row, next(predictions) if row.fault is None else None)
            bar.update(len(window))


def describe_faults(source: str, rows: Sequence[InputRow]) -> str:
    """Name the bad rows, the first of them one by one; empty where there are none."""
    bad = [row for row in rows if row.fault is not None]
    if not bad:
        return ""
    lines = [f"{source}: row {r.number} (rows count from 0): {r.fault}" for r in bad[:SHOWN_FAULTS]]
    if len(bad) > SHOWN_FAULTS:
        lines.append(f"... and {len(bad) - SHOWN_FAULTS} more")
    lines.append(f"{len(bad)} of {len(rows)} rows were not answered; their columns are left empty")
    return "\n".join(lines)


def check_output(output: str, source: str | None) -> None:
    """Refuse a place where predictions cannot be written, before they are made.

    Raises:
        DataError: it is no csv or jsonl file, lies in no folder, or is the input itself.
    """
    path = Path(output)
    if output == STREAM:
        return
    if path.suffix.removeprefix(".") not in OUTPUT_FORMATS:
        raise DataError(
            f"--output {path}: expected a .csv or .jsonl file, or - for standard output"
        )
    if path.is_dir() or not path.parent.is_dir():
        raise DataError(f"--output {path}: expected a file in a folder that is there")
    given = Path(source) if source and source != STREAM else None
    if given and given.exists() and path.exists() and path.samefile(given):
        raise DataError(f"--output {path}: is the input; name another file")


@contextmanager
def writing_rows(output: str, rows: Sequence[InputRow], names: Sequence[str]) -> Iterator[WriteRow]:
    """Open a csv or jsonl file, or standard output as jsonl, for rows and their predictions.

    Args:
        rows: all that will be written; their columns are kept.
        names: of the columns of an answer.
    """
    kept: dict[str, str] = {}
    for name in {name: None for row in rows for name in row.columns}:
        kept[name] = name
        while kept[name] in names or list(kept.values()).count(kept[name]) > 1:
            kept[name] = KEPT_AS + kept[name]
    with _open_output(output) as file:
        table = csv.DictWriter(file, [*kept.values(), *names])
        if output.endswith(".csv"):
            table.writeheader()

        def write(row: InputRow, answer: Answer | None) -> None:
            cells: dict[str, Any] = {kept[name]: cell for name, cell in row.columns.items()}
            cells |= dict.fromkeys(names)
            if answer is not None:
                cells |= answer.cells()
            if output.endswith(".csv"):
                table.writerow({name: _flat(cell) for name, cell in cells.items()})
            else:
                file.write(json.dumps(cells, ensure_ascii=False, default=str) + "\n")

        yield write


def _flat(cell: Any) -> Any:
    """A cell of a csv file; what is no single value, as JSON."""
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, (list, dict)) else cell


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
                yield _row(number, columns, columns.get(column))
                continue
            fault = f"found {type(columns).__name__}, expected an object with {column!r}"
        yield InputRow(number, {column: line.rstrip("\r\n")}, fault=fault)


def _read_delimited(file: IO[str], column: str, source: str, delimiter: str) -> Iterator[InputRow]:
    csv.field_size_limit(LONGEST_CELL)
    lines = list(file)
    header, read = _read_cells(lines, 0, delimiter)
    if column not in (header or []):
        raise _no_column(source, column, header or [])
    assert header is not None
    number = 0
    while read < len(lines):
        line = read + 1
        cells, read = _read_cells(lines, read, delimiter)
        if cells is None:
            fault = f"line {line}: its quotation marks do not close"
            yield InputRow(number, {column: lines[line - 1].rstrip("\r\n")}, fault=fault)
            number += 1
            continue
        if not cells:  # an empty line
            continue
        columns = dict(zip(header, cells, strict=False))
        if len(cells) != len(header):
            fault = f"line {line}: found {len(cells)} cells, expected {len(header)}"
            yield InputRow(number, columns, fault=fault)
        else:
            yield _row(number, columns, columns[column])
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


def _read_table(path: Path, column: str, form: str) -> Iterator[InputRow]:
    rows = read_file(path, form)
    if column not in rows.column_names:
        raise _no_column(str(path), column, rows.column_names)
    for number, columns in enumerate(rows):
        yield _row(number, columns, columns[column])


def _row(number: int, columns: Mapping[str, Any], text: object) -> InputRow:
    fault = text_fault(text)
    return InputRow(number, columns, fault=fault) if fault else InputRow(number, columns, str(text))


def _no_column(source: str, column: str, names: list[str]) -> DataError:
    return DataError(
        f"{source}: has no column {column!r}{did_you_mean(column, names)}; it has "
        f"{', '.join(names) or 'no columns'}; name it with --column"
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


@contextmanager
def _open_output(output: str) -> Iterator[IO[str]]:
    """Open standard output, or a hidden neighbour that becomes the file when all went well."""
    # Half a surrogate pair, which JSON may hold, is written as its escape.
    if output == STREAM:
        sys.stdout.reconfigure(  # type: ignore[union-attr]
            encoding="utf-8", errors="backslashreplace"
        )
        yield sys.stdout
        sys.stdout.flush()
        return
    final = Path(output).resolve()
    draft = final.with_name(f".{final.name}.{os.getpid()}.incomplete")
    try:
        with draft.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            yield file
        draft.replace(final)
    except OSError as error:
        raise DataError(f"--output {output}: cannot be written: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)
