"""Excel workbooks (xlsx), read by openpyxl: the first sheet, whose first row names the columns."""

import datetime
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lora_tune.data.cell_text import cell_text
from lora_tune.data.table import Record, Table, collect_table
from lora_tune.errors import DataError, first_line

# Parts of a number format that are no letters of it: [$-en-US], "text".
NO_FORMAT = re.compile(r'\[[^\]]*\]|"[^"]*"')
# What zipfile and XML parsers raise while rows are read; a ParseError is a SyntaxError.
BROKEN = (SyntaxError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError)
INSTALL = "pip install 'lora-tune[excel]'"


def read_excel(path: Path, name: str) -> Table:
    """Read a workbook's first sheet. A date without a time has none; a formula is its last value.

    Raises:
        DataError: openpyxl is not installed, the file is no workbook, or its header is malformed.
    """
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise DataError(
            f"{name}: reading Excel workbooks needs openpyxl; run {INSTALL}, or save it as csv"
        ) from None
    try:
        workbook = load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # noqa: BLE001 - openpyxl raises what zipfile and XML raise
        raise DataError(f"{name}: not a readable Excel workbook: {first_line(error)}") from None
    try:
        sheet, *others = workbook.worksheets
        sheet.reset_dimensions()  # what some programs write there is wrong
        rows = enumerate(sheet.iter_rows(), start=1)
        columns = _read_header(rows, name)
        notes = [f"{name}: read the sheet {sheet.title!r} of {len(others) + 1}."] if others else []
        table = collect_table(_records(rows, columns), name, columns=columns, notes=notes)
    except BROKEN as error:
        raise DataError(f"{name}: the workbook is damaged: {first_line(error)}") from None
    finally:
        workbook.close()
    if not len(table):
        raise DataError(f"{name}: found a header, but no rows")
    return table


def _read_header(rows: Iterator[tuple[int, Any]], name: str) -> list[str]:
    for number, cells in rows:
        found = [_text(cell) for cell in cells]
        while found and found[-1] is None:
            found.pop()
        names = [text or f"Unnamed: {at}" for at, text in enumerate(found)]
        twice = next((text for text in names if names.count(text) > 1), None)
        if twice is not None:
            raise DataError(
                f"{name}: row {number} of the sheet: the column {twice!r} occurs twice; rename one"
            )
        if names:
            return names
    raise DataError(f"{name}: the first sheet is empty")


def _records(rows: Iterator[tuple[int, Any]], columns: list[str]) -> Iterator[Record]:
    for number, cells in rows:
        texts = [_text(cell) for cell in cells]
        if not any(texts):  # a blank row
            continue
        row = dict(zip(columns, texts, strict=False))
        extra = [text for text in texts[len(columns) :] if text is not None]
        problem = f"found {extra[0]!r:.60} in a column without a name" if extra else None
        wrong = next((cell for cell in cells if cell.data_type == "e"), None)
        if wrong is not None:
            problem = f"found the error {wrong.value} in {wrong.coordinate}; correct the cell"
        yield Record(number, row, problem)


def _text(cell: Any) -> str | None:
    value = cell.value
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        number_format = NO_FORMAT.sub("", cell.number_format or "").lower()
        shows_time = any(letter in number_format for letter in "hs")
        value = value if shows_time else value.date()
    return cell_text(value)
