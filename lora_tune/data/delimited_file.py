"""csv and tsv files read strictly: a malformed row is named, and nothing is shifted or joined.

Source: RFC 4180; blank lines are no rows.
"""

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from lora_tune.config.data import NO_QUOTE, FormatConfig
from lora_tune.data.table import Record, Table, collect_table, encoding_problem
from lora_tune.data.text_file import open_text
from lora_tune.errors import DataError

DELIMITERS = {"csv": ",", "tsv": "\t"}
OTHER_DELIMITERS = (";", "\t", "|")  # that a csv file may have, where its header has no comma
NAMES = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
MAX_CELL_LENGTH = 2**31 - 1  # characters; the csv module's default of 2**17 is too few for texts


def read_delimited(path: Path, name: str, file_format: str, config: FormatConfig) -> Table:
    """Read a csv or tsv file.

    Args:
        path: of the file.
        name: of the file, for messages.
        file_format: `csv` or `tsv`.
        config: how the file is written.

    Raises:
        DataError: the file is empty or in another encoding, or its header is malformed.
    """
    csv.field_size_limit(MAX_CELL_LENGTH)
    opened = open_text(path, name, config.encoding)
    with opened.file as file:
        reader = _Reader(file, name, config, opened.encoding)
        try:
            columns = reader.read_header(DELIMITERS[file_format])
            table = collect_table(
                reader.records(columns), name, columns=columns, encoding=opened.encoding
            )
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name}: line {reader.line + 1}: not {opened.encoding}: {error.reason}; set "
                "another data.format.encoding"
            ) from None
    if not len(table):
        raise DataError(f"{name}: found a header, but no rows")
    notes = [note for note in (opened.note, *reader.notes) if note]
    lines = reader.line - (config.header is None)
    if lines != len(table):
        notes.append(f"{name}: {len(table):,} rows read from {lines:,} lines below the header.")
    return replace(table, notes=tuple(notes))


class _Reader:
    """The records of a file. One with an open quotation mark costs its own line, and no other."""

    def __init__(self, file: TextIO, name: str, config: FormatConfig, encoding: str) -> None:
        self.name, self.config, self.encoding = name, config, encoding
        self.line = 0  # lines that have been read
        self.notes: list[str] = []
        self._file = file
        self._pushed_back: deque[str] = deque()
        self._taken: list[str] = []  # the lines of the current record
        self._delimiter = ","

    def read_header(self, delimiter: str) -> list[str]:
        """Read the column names, and find the delimiter where the recipe does not name it."""
        self._delimiter = self.config.delimiter or delimiter
        cells = self._first_record()
        if self.config.header is None:
            problem = encoding_problem("".join(cells), self.encoding)
            if problem:
                raise DataError(f"{self.name}: line {self.line}: {problem}")
            return self._check_names(cells)
        if cells == self.config.header:
            raise DataError(
                f"{self.name}: line {self.line}: its first row is a header; remove "
                "data.format.header"
            )
        self._push_back(self._taken)
        return self.config.header

    def records(self, columns: Sequence[str]) -> Iterator[Record]:
        """Read the rows."""
        suspicious: list[tuple[int, int]] = []
        while True:
            self._taken = []
            start = self.line + 1
            try:
                cells = next(self._csv(), None)
            except csv.Error as error:
                first, *rest = self._taken
                self._push_back(rest)
                problem = self._describe(error, first)
                yield Record(start, {columns[0]: first.rstrip("\r\n")}, problem)
                continue
            if cells is None:
                break
            if not cells:  # a blank line
                continue
            row: dict[str, str | None] = dict(zip(columns, cells, strict=False))
            if len(cells) != len(columns):
                yield Record(start, row, self._describe_width(len(cells), len(columns)))
                continue
            if self._delimiter == "\t" and self._joins_rows(len(columns)):
                suspicious.append((start, self.line))
            yield Record(start, row)
        if suspicious:
            lines = ", ".join(f"{first} to {last}" for first, last in suspicious[:3])
            self.notes.append(
                f"{self.name}: a cell in quotation marks joins lines {lines}"
                f"{', ...' * (len(suspicious) > 3)}, each of which could be a row; if it is, set "
                f"data.format.quote={NO_QUOTE}."
            )

    def _csv(self) -> Iterator[list[str]]:
        quote = self.config.quote or '"'
        return csv.reader(
            self._lines(),
            delimiter=self._delimiter,
            quotechar=None if quote == NO_QUOTE else quote,
            quoting=csv.QUOTE_NONE if quote == NO_QUOTE else csv.QUOTE_MINIMAL,
            strict=True,
        )

    def _lines(self) -> Iterator[str]:
        while True:
            line = self._pushed_back.popleft() if self._pushed_back else self._file.readline()
            if not line:
                return
            self.line += 1
            self._taken.append(line)
            yield line

    def _push_back(self, lines: Sequence[str]) -> None:
        self._pushed_back.extendleft(reversed(lines))
        self.line -= len(lines)

    def _first_record(self) -> list[str]:
        delimiters = [self._delimiter]
        if self.config.delimiter is None and self._delimiter == ",":
            delimiters += OTHER_DELIMITERS
        found: dict[str, list[str]] = {}
        problem = ""
        for self._delimiter in delimiters:
            cells: list[str] | None = []
            try:
                while not cells and cells is not None:  # blank lines before the header
                    self._taken = []
                    cells = next(self._csv(), None)
            except csv.Error as error:
                problem = problem or self._describe(error, self._taken[0])
                cells = None
            if cells:
                found[self._delimiter] = cells
            if cells and len(cells) == len(self.config.header or cells) > 1:
                break  # the taken lines are those of this record
            self._push_back(self._taken)
        else:
            if not found:
                problem = problem or "found nothing but blank lines"
                raise DataError(f"{self.name}: line {self.line + 1}: {problem}")
            self._delimiter = delimiters[0] if delimiters[0] in found else next(iter(found))
            self._taken = []
            cells = next(self._csv())
        if self._delimiter != delimiters[0]:
            mark = NAMES[self._delimiter]
            self.notes.append(f"{self.name}: cells are separated by {mark}, as in its first row.")
        return list(cells or [])

    def _check_names(self, cells: list[str]) -> list[str]:
        names = [name or f"Unnamed: {number}" for number, name in enumerate(cells)]  # as in pandas
        first: dict[str, int] = {}
        for number, name in enumerate(names):
            if first.setdefault(name, number) != number:
                raise DataError(
                    f"{self.name}: line {self.line}: the column {name!r} occurs twice (columns "
                    f"{first[name] + 1} and {number + 1}); rename one of them"
                )
        return names

    def _joins_rows(self, width: int) -> bool:
        return len(self._taken) > 1 and all(
            line.count(self._delimiter) == width - 1 for line in self._taken
        )

    def _describe(self, error: csv.Error, line: str) -> str:
        allowed = f"; if quotation marks are text here, set data.format.quote={NO_QUOTE}"
        if '\\"' in line:
            return (
                "found a backslash before a quotation mark, which csv (RFC 4180) writes twice, as "
                f'"", in a cell with quotation marks around it{allowed}'
            )
        if "unexpected end of data" in str(error):
            return f"found a quotation mark that is not closed{allowed}"
        if "expected after" in str(error):
            return (
                "found text after the closing quotation mark of a cell; inside a cell, a quotation "
                f'mark is written twice, as ""{allowed}'
            )
        return f"not csv: {error}"

    def _describe_width(self, found: int, expected: int) -> str:
        hint = (
            f"a cell with {NAMES.get(self._delimiter, repr(self._delimiter))} in it needs "
            "quotation marks around it"
            if found > expected
            else "an empty cell still needs its delimiter"
        )
        cells = "cell" if found == 1 else "cells"
        return f"found {found} {cells}, expected {expected} as in the header; {hint}"
