"""Rows tokenized by a task, or read from the cache if they were tokenized before."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lora_tune.config.data import DataConfig
from lora_tune.data.arrow_store import BATCH_ROWS
from lora_tune.data.row_reader import RowReader
from lora_tune.data.rows import SPLITS, Rows, Split
from lora_tune.errors import DataError, RowError
from lora_tune.system.cache import get_or_write, hash_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CODE = ("data", "tasks")  # the folders whose code tokenizes; the recipe's values are in the key
MANY_ROWS = 20_000  # from which tokenizing shows a progress bar
LENGTH = "length"  # of a row's tokens
TOKEN_COUNTS = "token_counts"
# Masks and token types are small; tokens and labels are not.
SMALL = ("attention_mask", "token_type_ids")


def tokenize_rows(
    rows: Rows, tokenizer: "PreTrainedTokenizerBase | None", config: DataConfig, task: RowReader
) -> Split:
    """Tokenize the rows of a split, batch by batch; the tokens stay on disk.

    Args:
        rows: of the split.
        tokenizer: of the model; None for a model without tokens, which leaves the rows without.
        config: of the recipe.
        task: of the rows.

    Raises:
        DataError: a row cannot be tokenized.
    """
    import datasets

    if tokenizer is None:
        return Split(rows, datasets.Dataset.from_dict({}), np.zeros(len(rows.texts), dtype=int))
    key = _cache_key(rows, tokenizer, config, task)
    try:
        content = get_or_write(
            "tokens", key, lambda file: _write(file, rows, tokenizer, config, task), code=CODE
        )
    except RowError as error:
        where = f"data.{rows.name}" if rows.name in SPLITS else rows.origin
        number = rows.row_numbers[error.row]
        raise DataError(f"{where}: row {number} (rows count from 0): {error}") from None
    reader = pa.BufferReader(pa.py_buffer(content))
    encoded, counts = (pa.ipc.open_stream(reader).read_all() for _ in range(2))
    # With a fingerprint, datasets need not hash the rows to make one.
    dataset = datasets.Dataset(encoded, fingerprint=key["rows"][:16])
    return Split(rows, dataset, counts[TOKEN_COUNTS].to_numpy())


def _write(
    file: IO[bytes],
    rows: Rows,
    tokenizer: "PreTrainedTokenizerBase",
    config: DataConfig,
    task: RowReader,
) -> None:
    """Write two Arrow streams: the encoded rows, and token counts before truncation."""
    batches = _Batches(rows)
    tokenized: Iterator[tuple[dict[str, list[Any]], np.ndarray]]
    if rows.name == "train":
        tokenized = task.tokenize_training(batches, tokenizer, config.max_length)
    else:
        tokenized = (task.tokenize(*batch, tokenizer, config.max_length) for batch in batches)
    writer, counts = None, []
    try:
        for columns, batch_counts in tokenized:
            counts.append(batch_counts)
            if not columns["input_ids"]:
                continue
            batch = _to_arrow(columns)
            if writer is None:
                writer = pa.ipc.new_stream(file, batch.schema)
            writer.write_batch(batch)
    except RowError as error:
        raise RowError(batches.first + error.row, str(error)) from None
    assert writer is not None
    writer.close()
    table = pa.table({TOKEN_COUNTS: pa.array(np.concatenate(counts), pa.int64())})
    with pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)


class _Batches:
    """Batches of inputs and labels, with a progress bar where there are many."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.first = 0  # the row that the current batch begins with

    def __iter__(self) -> Iterator[tuple[Sequence[Any], np.ndarray]]:
        from tqdm import tqdm

        count = len(self.rows.inputs)
        title = f"tokenize {self.rows.name}"
        disable = True if count < MANY_ROWS else None
        with tqdm(total=count, desc=title, unit="row", disable=disable, leave=False) as bar:
            for self.first in range(0, count, BATCH_ROWS):
                chosen = slice(self.first, self.first + BATCH_ROWS)
                yield self.rows.inputs[chosen], self.rows.labels[chosen]
                bar.update(min(BATCH_ROWS, count - self.first))


def _to_arrow(columns: Mapping[str, list[Any]]) -> pa.RecordBatch:
    arrays = {}
    for name, cells in columns.items():
        if name in SMALL:
            arrays[name] = pa.array(cells, pa.list_(pa.int8()))
        elif name == "input_ids":
            arrays[name] = pa.array(cells, pa.list_(pa.int64()))
        else:
            arrays[name] = pa.array(cells)
    arrays[LENGTH] = pa.array(list(map(len, columns["input_ids"])), pa.int32())
    return pa.RecordBatch.from_pydict(arrays)


def _cache_key(
    rows: Rows, tokenizer: "PreTrainedTokenizerBase", config: DataConfig, task: RowReader
) -> dict[str, str]:
    """Describe everything that the tokens depend on, except code and libraries."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend |= {"truncation": None, "padding": None}  # left over from the previous call
    return {
        "task": f"{task.name} {'training' if rows.name == 'train' else ''}",
        "tokenizer": f"{tokenizer!r} {json.dumps(backend)}",
        "chat_template": str(tokenizer.chat_template),
        "max_length": str(config.max_length),
        "rows": hash_rows({"inputs": rows.inputs, "labels": rows.labels.tolist()}),
    }
