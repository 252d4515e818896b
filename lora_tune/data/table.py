"""Rows as they are read: every cell is text, or None where it is missing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from lora_tune.data.arrow_store import BATCH_ROWS, ArrowStore, Column
from lora_tune.errors import DataError

Row = dict[str, str | None]
BYTE = 0xDC00  # added to a byte that is not text in the file's encoding (PEP 383)


class Record(NamedTuple):
    """A row of a file, before it is known whether all of its text is valid."""

    line: int | None  # of the file, from 1, where the row begins; None where files have no lines
    cells: Row
    problem: str | None = None  # why it cannot be used


@dataclass(frozen=True)
class Table:
    """Rows as they are read, in Arrow on disk."""

    name: str  # of the file or the split, for messages
    cells: pa.Table  # of strings
    row_numbers: np.ndarray  # (rows,), in the file or the split, from 0
    lines: np.ndarray | None = None  # (rows,), where each row begins in its file, from 1
    problems: Mapping[int, str] = field(default_factory=dict)  # row number -> why it is unusable
    bad_cells: Mapping[str, Mapping[int, str]] = field(default_factory=dict)  # by column and row
    unreadable: Mapping[str, str] = field(default_factory=dict)  # column -> why it has no text
    class_names: Mapping[str, list[str]] = field(default_factory=dict)  # of ClassLabel columns
    notes: tuple[str, ...] = ()  # what a person should know about how the file was read
    _selected: np.ndarray | None = None  # (rows,), the rows of `cells` that are left

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.row_numbers)

    @property
    def column_names(self) -> list[str]:
        """The names of the columns in the order of the file."""
        return list(self.cells.column_names)

    def column(self, name: str) -> Column:
        """Return the cells of a column."""
        return Column(self.cells.column(name), self._selected)

    def batches(self, columns: Iterable[str]) -> Iterator[dict[str, list[str | None]]]:
        """Read some columns, BATCH_ROWS rows at a time."""
        chosen = {name: self.column(name) for name in columns}
        for start in range(0, len(self), BATCH_ROWS):
            yield {name: cells[start : start + BATCH_ROWS] for name, cells in chosen.items()}

    def rows(self, columns: Iterable[str] | None = None) -> Iterator[Row]:
        """Read rows one by one, with some columns or all."""
        names = self.column_names if columns is None else list(dict.fromkeys(columns))
        if not names:
            yield from ({} for _ in range(len(self)))
        for batch in self.batches(names):
            for cells in zip(*batch.values(), strict=True):
                yield dict(zip(names, cells, strict=True))

    def select(self, indices: Sequence[int] | np.ndarray) -> "Table":
        """Take some of the rows, in the order of their indices, without copying them."""
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            row_numbers=self.row_numbers[chosen],
            lines=None if self.lines is None else self.lines[chosen],
            _selected=chosen if self._selected is None else self._selected[chosen],
        )

    def place(self, index: int) -> str:
        """Say where a row is, for messages.

        Args:
            index: of the row among those of this table, from 0.
        """
        line = "" if self.lines is None else f", line {self.lines[index]}"
        return f"row {self.row_numbers[index]} (rows count from 0){line} of {self.name}"

    def check_names(self, columns: Iterable[str]) -> "Table":
        """Return the table if it has columns of these names.

        Raises:
            DataError: one of them is missing.
        """
        for name in columns:
            if name not in self.column_names:
                raise DataError(f"{self.name}: has no column {name!r}")
        return self

    def check(self, columns: Iterable[str] = ()) -> "Table":
        """Return the table if every row of the file can be used.

        Args:
            columns: whose cells must be text.

        Raises:
            DataError: names the first row that cannot be used.
        """
        problems = dict(self.problems)
        for name in columns:
            for number, problem in self.bad_cells.get(name, {}).items():
                problems.setdefault(number, f"column {name!r}: {problem}")
        if not problems:
            return self
        number, problem = min(problems.items())
        index = int(np.flatnonzero(self.row_numbers == number)[0])
        line = "" if self.lines is None else f"line {self.lines[index]}: "
        more = len(problems) - 1
        also = f" (and {more} more row{'s' * (more > 1)} with a problem)" if more else ""
        raise DataError(f"{self.name}: {line}row {number} (rows count from 0): {problem}{also}")


def collect_table(
    records: Iterable[Record],
    name: str,
    *,
    columns: Sequence[str] = (),
    notes: Sequence[str] = (),
    encoding: str = "UTF-8",
) -> Table:
    """Write records to disk as a table.

    Args:
        records: in the order of the file.
        name: of the file.
        columns: those that are known; others are added when a record has them.
        notes: about how the file is read.
        encoding: of the file, for messages.
    """
    with ArrowStore(pa.string()) as store:
        return _collect(store, records, name, columns=columns, notes=notes, encoding=encoding)


def _collect(
    store: ArrowStore,
    records: Iterable[Record],
    name: str,
    *,
    columns: Sequence[str],
    notes: Sequence[str],
    encoding: str,
) -> Table:
    names = dict.fromkeys(columns)
    problems: dict[int, str] = {}
    bad_cells: dict[str, dict[int, str]] = {}
    lines: list[int | None] = []
    batch: list[Row] = []
    for record in records:
        if record.problem is not None:
            problems[len(lines)] = record.problem
        lines.append(record.line)
        names |= dict.fromkeys(record.cells)
        batch.append(record.cells)
        if len(batch) == BATCH_ROWS:
            _write(store, batch, list(names), encoding, bad_cells, first=len(lines) - len(batch))
            batch = []
    if batch or not lines:
        _write(store, batch, list(names), encoding, bad_cells, first=len(lines) - len(batch))
    has_lines = bool(lines) and None not in lines
    return Table(
        name,
        store.finish(),
        np.arange(len(lines)),
        lines=np.array(lines, dtype=np.int64) if has_lines else None,
        problems=problems,
        bad_cells=bad_cells,
        notes=tuple(notes),
    )


def _write(
    store: ArrowStore,
    batch: list[Row],
    names: list[str],
    encoding: str,
    bad_cells: dict[str, dict[int, str]],
    *,
    first: int,
) -> None:
    columns = {name: [row.get(name) or None for row in batch] for name in names}
    try:
        store.write(columns)
    except UnicodeEncodeError:  # some text holds what is no character
        for name, cells in columns.items():
            for row, cell in enumerate(cells):
                problem = None if cell is None else encoding_problem(cell, encoding)
                if cell is not None and problem:
                    bad_cells.setdefault(name, {})[first + row] = problem
                    cells[row] = cell.encode(errors="backslashreplace").decode()
        store.write(columns)


def encoding_problem(text: str, encoding: str = "UTF-8") -> str | None:
    """Describe what in a text is no character; None where there is nothing."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if 0x80 <= code - BYTE <= 0xFF:
            hint = (
                "if the file is Latin-1 or Windows-1252, set data.format.encoding=latin-1 or "
                "cp1252 in the recipe, else save the file as UTF-8"
                if encoding == "UTF-8"
                else "set another data.format.encoding"
            )
            return f"found the byte 0x{code - BYTE:02X}, which is not {encoding}; {hint}"
        return f"found half of a surrogate pair, \\u{code:04x}, expected text"
    return None
