"""Rows of typed formats, parquet and Hub datasets, as text; `cell_text` has the rule."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lora_tune.data.arrow_store import BATCH_ROWS, ArrowStore
from lora_tune.data.cell_text import cell_text
from lora_tune.data.table import Table
from lora_tune.errors import DataError, first_line

if TYPE_CHECKING:
    from datasets import Dataset

CONVERSION_ERRORS = (ValueError, OverflowError, TypeError, pa.ArrowException)


def read_parquet(path: Path, name: str) -> Table:
    """Read a parquet file; ClassLabels of datasets are names.

    Raises:
        DataError: the file is not parquet, has no rows, or has two columns of one name.
    """
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            if not file.metadata.num_rows:
                raise DataError(f"{name}: found no rows")
            return _convert(file.iter_batches(BATCH_ROWS), schema, name)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name}: not a readable parquet file: {first_line(error)}") from None


def convert_dataset(dataset: "Dataset", name: str) -> Table:
    """Convert a split of a Hub dataset.

    Raises:
        DataError: it has no rows.
    """
    if not len(dataset):
        raise DataError(f"{name}: found no rows")
    tables = dataset.with_format("arrow").iter(BATCH_ROWS)
    batches = (batch for table in tables for batch in table.to_batches())
    return _convert(batches, dataset.features.arrow_schema, name)


def _convert(batches: Iterable[pa.RecordBatch], schema: pa.Schema, name: str) -> Table:
    from datasets import Features

    twice = next((column for column, n in Counter(schema.names).items() if n > 1), None)
    if twice is not None:
        raise DataError(f"{name}: the column {twice!r} occurs twice; rename one of them")
    try:
        features = Features.from_arrow_schema(schema)
    except (ValueError, KeyError, TypeError, AttributeError):  # types that datasets does not have
        features = {}
    classes = {column: _class_names(feature) for column, feature in features.items()}
    class_names = {column: names for column, names in classes.items() if names}
    unreadable: dict[str, str] = {}
    rows = 0
    with ArrowStore(pa.string()) as store:
        for batch in batches:
            cells = {}
            for column in schema.names:
                names = class_names.get(column)
                try:
                    cells[column] = _to_text(batch.column(column), names)
                except CONVERSION_ERRORS as error:
                    unreadable.setdefault(
                        column, f"{schema.field(column).type}: {first_line(error)}"
                    )
                    cells[column] = pa.nulls(len(batch), pa.string())
            store.write_batch(pa.RecordBatch.from_pydict(cells))
            rows += len(batch)
        table = store.finish()
    return Table(name, table, np.arange(rows), unreadable=unreadable, class_names=class_names)


def _class_names(feature: Any) -> list[str] | None:
    """The names of a ClassLabel, or of the ClassLabels in a list; None for another feature."""
    names = getattr(feature, "names", None) or getattr(
        getattr(feature, "feature", None), "names", None
    )
    return list(names) if names else None


def _to_text(column: pa.Array, names: list[str] | None) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if names is None and (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        text = column.cast(pa.string())
        text.validate(full=True)  # UTF-8
        return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    if names is None and pa.types.is_integer(kind):
        return column.cast(pa.string())
    values: Iterator[Any] = iter(column.to_pylist())
    if names is not None:
        values = (_name_classes(value, names) for value in values)
    elif pa.types.is_floating(kind) and kind != pa.float64():
        narrow = kind.to_pandas_dtype()  # float32 0.1 is 0.1, not 0.10000000149011612
        values = (None if value is None else narrow(value) for value in values)
    return pa.array([cell_text(value) for value in values], pa.string())


def _name_classes(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_name_classes(item, names) for item in value]
    if isinstance(value, str) or value is None or value == -1:
        return None if value == -1 else value
    return names[value] if 0 <= value < len(names) else str(value)
