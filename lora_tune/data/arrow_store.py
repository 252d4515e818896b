"""Rows in Arrow on disk: written in batches, and read as sequences that load what is asked for."""

import mmap
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import IO, Any, overload

import numpy as np
import pyarrow as pa

BATCH_ROWS = 1000  # that are written, or read, at once


class ArrowStore:
    """A table that is being written to unnamed temporary files, which disappear by themselves.

    Columns may appear in later rows; earlier rows have None there.
    """

    def __init__(self, column_type: pa.DataType | None = None) -> None:
        """Start without rows.

        Args:
            column_type: of all columns; None to infer that of each from its first values.
        """
        self._default = column_type
        self._types: dict[str, pa.DataType] = {}
        self._files: list[tuple[pa.Schema, IO[bytes]]] = []
        self._writer: Any = None

    def __enter__(self) -> "ArrowStore":
        """Begin to write."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files; what is mapped into memory stays."""
        for _, file in self._files:
            file.close()

    def write(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Append a batch of rows.

        Args:
            columns: name -> a cell for each row.
        """
        arrays = {}
        for name, cells in columns.items():
            array = pa.array(cells, type=self._types.get(name, self._default))
            if array.type != pa.null():  # else the type is that of a later batch
                self._types[name] = array.type
            arrays[name] = array
        self.write_batch(pa.RecordBatch.from_pydict(arrays))

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Append a batch of rows that are in Arrow already."""
        if not self._files or self._files[-1][0] != batch.schema:
            self._close()
            file = tempfile.TemporaryFile(prefix="lora_tune-")  # noqa: SIM115 - kept open
            self._files.append((batch.schema, file))
            self._writer = pa.ipc.new_stream(file, batch.schema)
        self._writer.write_batch(batch)

    def finish(self) -> pa.Table:
        """End writing, and map the rows into memory; they take none until they are read."""
        self._close()
        tables = [_map(file) for _, file in self._files]
        if not tables:
            return pa.table({name: pa.array([], type=kind) for name, kind in self._types.items()})
        return pa.concat_tables(tables, promote_options="default")

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class Column(Sequence[Any]):
    """A column of a table as a sequence of Python values, in any order of its rows."""

    def __init__(self, column: pa.ChunkedArray, indices: np.ndarray | None = None) -> None:
        """Take a column.

        Args:
            column: of a table.
            indices: of the rows to show, in their order; None for all.
        """
        self._column = column
        self._indices = indices
        self._starts = np.cumsum([0, *map(len, column.chunks)])  # of the chunks; then the end

    def __len__(self) -> int:
        """Count the rows."""
        return len(self._column) if self._indices is None else len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        """Read one row, or several as a list."""
        if isinstance(index, slice):
            return self._read(np.arange(len(self))[index])
        number = range(len(self))[index]
        return self._read(np.array([number]))[0]

    def __iter__(self) -> Iterator[Any]:
        """Read all rows, a batch at a time."""
        for start in range(0, len(self), BATCH_ROWS):
            yield from self[start : start + BATCH_ROWS]

    def __eq__(self, other: object) -> bool:
        """Compare with any sequence, such as a list."""
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Show the first rows."""
        return f"Column({self[:3]!r}, {len(self)} rows)"

    def select(self, indices: Sequence[int] | np.ndarray) -> "Column":
        """Take some of the rows, without copying them."""
        chosen = np.asarray(indices, dtype=np.int64)
        return Column(self._column, chosen if self._indices is None else self._indices[chosen])

    def _read(self, numbers: np.ndarray) -> list[Any]:
        rows = numbers if self._indices is None else self._indices[numbers]
        if not len(rows):
            return []
        if len(rows) == rows[-1] - rows[0] + 1 and (np.diff(rows) == 1).all():
            values: list[Any] = self._column.slice(int(rows[0]), len(rows)).to_pylist()
            return values
        # Chunk by chunk: taking from the whole column would copy all of it.
        chunks = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(chunks, kind="stable")
        edges = np.flatnonzero(np.diff(chunks[order], prepend=-1, append=-1))
        found: list[Any] = [None] * len(rows)
        for start, end in pairwise(edges.tolist()):
            places = order[start:end]
            chunk = int(chunks[places[0]])
            taken = self._column.chunk(chunk).take(pa.array(rows[places] - self._starts[chunk]))
            for place, value in zip(places, taken.to_pylist(), strict=True):
                found[place] = value
        return found


def select_rows(rows: Sequence[Any], indices: Sequence[int] | np.ndarray) -> Sequence[Any]:
    """Take some of the rows of a sequence; those of a Column are not copied."""
    return rows.select(indices) if isinstance(rows, Column) else [rows[i] for i in indices]


def _map(file: IO[bytes]) -> pa.Table:
    file.flush()
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return pa.ipc.open_stream(pa.py_buffer(mapped)).read_all()
