"""Data files read into rows of text, for every command: the one place that knows the formats."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np
import pyarrow as pa

from lora_tune.config.data import FormatConfig
from lora_tune.data.conll import read_conll
from lora_tune.data.delimited_file import DELIMITERS, read_delimited
from lora_tune.data.excel_file import read_excel
from lora_tune.data.json_file import read_json
from lora_tune.data.table import Record, Table, collect_table
from lora_tune.data.text_file import open_text
from lora_tune.data.typed_rows import read_parquet
from lora_tune.errors import DataError, did_you_mean, first_line

FORMATS = ("csv", "tsv", "json", "jsonl", "parquet", "conll", "txt", "xlsx")
SUFFIXES = tuple(f".{name}" for name in FORMATS)
STREAM = "-"  # standard input
TEXT_COLUMN = "text"  # of files that have no columns


def read_file(
    path: Path | str,
    config: FormatConfig | None = None,
    *,
    name: str | None = None,
    file_format: str | None = None,
    text_column: str = TEXT_COLUMN,
) -> Table:
    """Read the rows of one file.

    Rows that cannot be used stay in the table, with their problems; see `Table.check`.

    Args:
        path: of the file.
        config: how it is written; None for the default of its format.
        name: of the file, for messages; None for its path.
        file_format: one of FORMATS; None for the one that the name's suffix names, and txt for
            standard input.
        text_column: the column of a txt file, which has a row on each line.

    Raises:
        DataError: the file does not exist, is no file of its format, or has no rows.
    """
    path, name = Path(path), name or str(path)
    suffix = ".txt" if name == STREAM else Path(name).suffix.lower()
    if not os.path.isfile(path):  # False, not an error, for a name that is too long
        kind = "no such file"
        if os.path.exists(path):
            kind = "found a folder or a special file, expected a file"
        raise DataError(f"{name}: {kind} (looked from {Path.cwd()}){suggest_path(path)}")
    if file_format is None and suffix not in SUFFIXES:
        found = f"a {suffix} file" if suffix else "a file without an extension"
        raise DataError(f"{name}: found {found}, expected {', '.join(FORMATS)}")
    try:
        return _read(path, name, file_format or suffix[1:], config or FormatConfig(), text_column)
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {first_line(error)}") from None
    except UnicodeError as error:
        found = (config and config.encoding) or "text in the encoding of its byte-order mark"
        raise DataError(f"{name}: not {found}: {first_line(error)}") from None


@contextmanager
def local_file(path: Path | str) -> Iterator[Path]:
    """Give a file's path; standard input, `-`, is copied to a temporary file."""
    if str(path) != STREAM:
        yield Path(path)
        return
    with tempfile.NamedTemporaryFile(prefix="lora_tune-") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.flush()
        yield Path(copy.name)


def concatenate(tables: list[Table], name: str) -> Table:
    """Put the rows of several files together.

    Raises:
        DataError: their columns differ.
    """
    if len(tables) == 1:
        return tables[0]
    for table in tables[1:]:
        if set(table.column_names) != set(tables[0].column_names):
            differ = set(table.column_names) ^ set(tables[0].column_names)
            raise DataError(
                f"{table.name}: its columns differ from those of {tables[0].name}: "
                f"{', '.join(sorted(differ))}"
            )
    names = tables[0].column_names
    cells = [table.check(names).cells.select(names) for table in tables]
    return Table(
        name,
        pa.concat_tables(cells),
        np.arange(sum(map(len, tables))),
        unreadable={key: why for table in tables for key, why in table.unreadable.items()},
        class_names=tables[0].class_names,
        notes=tuple(note for table in tables for note in table.notes),
    )


def suggest_path(path: Path) -> str:
    """Suggest the file or folder whose name is closest to that of a path that does not exist.

    Returns:
        The end of an error message; empty where no name is close.
    """
    if not os.path.isdir(path.parent) or os.path.exists(path):
        return ""
    names = [file.name for file in path.parent.iterdir()]
    return did_you_mean(path.name, names, prefix=f"{path.parent}/")


def _read(path: Path, name: str, file_format: str, config: FormatConfig, text_column: str) -> Table:
    if file_format in DELIMITERS:
        return read_delimited(path, name, file_format, config)
    if file_format in ("json", "jsonl"):
        return read_json(path, name, config.encoding)
    if not path.stat().st_size:
        raise DataError(f"{name}: the file is empty")
    if file_format == "parquet":
        return read_parquet(path, name)
    if file_format == "xlsx":
        return read_excel(path, name)
    if file_format == "conll":
        return read_conll(path, name, config.encoding)
    opened = open_text(path, name, config.encoding)
    with opened.file as file:
        notes = [opened.note] if opened.note else []
        lines = _lines(file, text_column)
        return collect_table(
            lines, name, columns=[text_column], notes=notes, encoding=opened.encoding
        )


def _lines(file: TextIO, column: str) -> Iterator[Record]:
    for number, line in enumerate(file, start=1):
        yield Record(number, {column: line.rstrip("\r\n")})
