"""Tables turned into labeled rows by a task, and files that are given to a trained model."""

from pathlib import Path

import numpy as np

from lora_tune.config.data import DataConfig, FormatConfig
from lora_tune.data.arrow_store import ArrowStore, Column
from lora_tune.data.file_reader import local_file, read_file
from lora_tune.data.row_reader import RowReader
from lora_tune.data.rows import SPLITS, Rows
from lora_tune.data.sources import text_column_of
from lora_tune.data.table import Table
from lora_tune.errors import DataError, RowError


def read_rows(
    name: str, table: Table, config: DataConfig, task: RowReader, *, labels: list[str], origin: str
) -> Rows:
    """Read the texts, inputs and labels of a table.

    Args:
        name: of the split.
        table: whose rows all have a text and a label.
        config: has the columns.
        task: of the rows.
        labels: label names in the order of their IDs.
        origin: the file, or the split of the source.

    Raises:
        DataError: a row is invalid.
    """
    where = f"data.{name}" if name in SPLITS else origin
    parts, has_inputs = [], False
    with ArrowStore() as store:
        try:
            for batch in task.read(table, config, labels):
                columns = {"text": batch.texts, "label": batch.label_texts}
                if batch.inputs is not batch.texts:
                    has_inputs = True
                    columns["input"] = batch.inputs
                store.write(columns)
                parts.append(batch.labels)
        except RowError as error:
            raise DataError(f"{where}: {table.place(error.row)}: {error}") from None
        except DataError as error:
            prefix = "" if str(error).startswith("data.") else f"{where}: "
            raise DataError(f"{prefix}{error}") from None
        cells = store.finish()
    return Rows(
        name,
        origin,
        table.row_numbers.tolist(),
        texts=Column(cells["text"]),
        inputs=Column(cells["input" if has_inputs else "text"]),
        labels=np.concatenate(parts),
        label_texts=Column(cells["label"]),
        label_names=labels,
        ids=None if config.id is None else table.column(config.id),
    )


def read_given_file(
    path: Path | str,
    config: DataConfig,
    wanted: list[str],
    *,
    file_format: str | None = None,
    text_column: str | None = None,
) -> Table:
    """Read a file that is given to a trained model: as its recipe says, or else as is standard.

    Args:
        path: of the file, or `-` for standard input.
        config: of the recipe that the model was trained with.
        wanted: the columns that are needed.
        file_format: one of FORMATS; None for the one that the path's suffix names.
        text_column: the column of a file without columns; None for that of the recipe.

    Raises:
        DataError: the file does not exist, or is no file of its format.
    """
    text_column = text_column or text_column_of(config)
    with local_file(path) as file:

        def read(written: FormatConfig) -> Table:
            return read_file(
                file, written, name=str(path), file_format=file_format, text_column=text_column
            )

        if config.format != FormatConfig():
            try:
                table = read(FormatConfig())
            except DataError:
                table = None
            if table is not None and not table.problems and set(wanted) <= set(table.column_names):
                return table
        return read(config.format)
