"""Rows tokenized by a task, or read from the cache if they were tokenized before."""

import json
from typing import TYPE_CHECKING

from lora_tune.config.data import DataConfig
from lora_tune.data.row_reader import RowReader
from lora_tune.data.rows import SPLITS, Rows, Split
from lora_tune.errors import DataError, RowError
from lora_tune.system.cache import LENGTHS, Arrays, get_or_compute, hash_rows, pack, unpack

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKEN_COUNTS = "token counts"
CODE = ("data", "tasks")  # the folders whose code tokenizes; the recipe's values are in the key


def tokenize_rows(
    rows: Rows, tokenizer: "PreTrainedTokenizerBase", config: DataConfig, task: RowReader
) -> Split:
    """Tokenize the rows of a split.

    Raises:
        DataError: a row cannot be tokenized.
    """
    import datasets

    training = rows.name == "train"

    def compute() -> Arrays:
        columns, counts = task.tokenize(
            rows.inputs, rows.labels, tokenizer, config.max_length, training=training
        )
        packed = [pack(name, cells) for name, cells in columns.items()]
        return {TOKEN_COUNTS: counts} | {name: a for part in packed for name, a in part.items()}

    try:
        arrays = get_or_compute(
            "tokens", _cache_key(rows, tokenizer, config, task), compute, code=CODE
        )
    except RowError as error:
        where = f"data.{rows.name}" if rows.name in SPLITS else rows.origin
        number = rows.row_numbers[error.row]
        raise DataError(f"{where}: row {number} (rows count from 0): {error}") from None
    token_counts = arrays.pop(TOKEN_COUNTS)
    names = [name for name in arrays if not name.endswith(LENGTHS)]
    columns = {name: [cell.tolist() for cell in unpack(name, arrays)] for name in names}
    columns["length"] = [len(ids) for ids in columns["input_ids"]]
    return Split(rows, datasets.Dataset.from_dict(columns), token_counts)


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
