"""Tables turned into labeled rows by a task."""

import numpy as np

from lora_tune.config.data import DataConfig
from lora_tune.data.arrow_store import ArrowStore, Column
from lora_tune.data.row_reader import RowReader
from lora_tune.data.rows import SPLITS, Rows
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
