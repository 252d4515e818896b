"""Files of rows that are given to a trained model, to predict for or to evaluate on."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lora_tune.config.data import DataConfig, FormatConfig
from lora_tune.data.file_reader import local_file, read_file
from lora_tune.data.labeling import read_rows
from lora_tune.data.row_reader import RowReader
from lora_tune.data.rows import Split
from lora_tune.data.sources import text_column_of
from lora_tune.data.table import Table
from lora_tune.data.table_checks import check_columns, holds_predictions, leave_out_missing
from lora_tune.data.token_cache import tokenize_rows
from lora_tune.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def read_given_file(
    path: Path | str,
    config: DataConfig,
    wanted: list[str],
    *,
    file_format: str | None = None,
    text_column: str | None = None,
) -> Table:
    """Read a file that is given to a trained model: as its recipe says, else as is standard.

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

        if config.format == FormatConfig():
            return read(config.format)
        try:
            return read(config.format).check(wanted).check_names(wanted)
        except DataError:
            try:
                return read(FormatConfig()).check(wanted).check_names(wanted)
            except DataError:
                return read(config.format)


def load_file(
    path: Path,
    config: DataConfig,
    task: RowReader,
    *,
    labels: list[str],
    tokenizer: "PreTrainedTokenizerBase | None",
    predicted: str | None = None,
    renamed: str | None = None,
) -> tuple[Split, list[str]]:
    """Read, label and tokenize the rows of one file.

    Args:
        path: of the file.
        config: has the columns.
        task: of the rows.
        labels: label names in the order of their IDs.
        tokenizer: of the model; None for a model without tokens.
        predicted: the column that predictions have their labels in, for a file that has no column
            of the recipe's name.
        renamed: the column that a file of predictions has the given labels in, where its own labels
            have their name.

    Returns:
        The rows, and notes about how they were read.

    Raises:
        DataError: the file, a column, a label or a row is missing or invalid.
    """
    wanted = [column for _, column in task.columns(config)]
    table = read_given_file(path, config, wanted)
    notes = list(table.notes)
    if renamed in table.column_names:
        notes.append(f"{path} is a file of predictions: the true labels are those of {renamed!r}.")
        config = replace(config, label=renamed)
    elif predicted in table.column_names and config.label not in table.column_names:
        notes.append(f"{path} has no column {config.label!r}: labels are those of {predicted!r}.")
        config = replace(config, label=predicted)
    elif config.label == predicted and holds_predictions(table, labels):
        notes.append(
            f"{path} is a file of predictions: its labels are predictions, not true labels."
        )
    config = replace(config, id=config.id if config.id in table.column_names else None)
    check_columns(table, config, task)
    table, note = leave_out_missing(table, config, task, where=str(path))
    rows = read_rows("data", table, config, task, labels=labels, origin=str(path.resolve()))
    return tokenize_rows(rows, tokenizer, config, task), [*notes, *([note] if note else [])]
