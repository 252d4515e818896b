"""Unlabeled rows turned into a task's inputs, in the same way as its training rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_tune.config.data import DataConfig
from lora_tune.data.row_reader import RowReader
from lora_tune.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Row = str | Mapping[str, Any]  # a text, where the task needs one column; or columns by name


@dataclass(frozen=True)
class Preprocessor:
    """The columns that a trained model needs of a row, and how they become an input."""

    task: RowReader
    data: DataConfig  # the columns and templates of the training rows
    tokenizer: "PreTrainedTokenizerBase"

    @property
    def columns(self) -> list[str]:
        """The columns that a row must have."""
        return [column for _, column in self.task.columns(self.data, labeled=False)]

    def preprocess(self, row: Row) -> Any:
        """Turn a row into an input.

        Raises:
            DataError: the row is invalid; the message does not say which row it is.
        """
        if isinstance(row, str):
            if len(self.columns) > 1:
                raise DataError(f"found one text, expected the columns {', '.join(self.columns)}")
            row = {self.columns[0]: row}
        elif not isinstance(row, Mapping):
            raise DataError(f"found {row!r:.60}, expected text")
        elif not row.keys() >= set(self.columns):
            raise DataError(
                f"found the columns {', '.join(map(str, row))}, expected {', '.join(self.columns)}"
            )
        return self.task.preprocess_row(
            {name: row[name] for name in self.columns}, self.data, self.tokenizer
        )

    def preprocess_rows(self, rows: Sequence[Row], *, where: str) -> list[Any]:
        """Turn rows into inputs.

        Args:
            rows: texts, or columns by name.
            where: what the rows were read from, for the error.

        Raises:
            DataError: a row is invalid; the message begins with its number.
        """
        inputs = []
        for number, row in enumerate(rows):
            try:
                inputs.append(self.preprocess(row))
            except DataError as error:
                raise DataError(f"{where}, row {number} (rows count from 0): {error}") from None
        return inputs


def format_row(row: Any) -> str:
    """Format a row as one text: the content of its columns, separated by line breaks."""
    if isinstance(row, Mapping):
        row = list(row.values())
    if isinstance(row, list):
        return "\n".join(filter(None, map(format_row, row)))
    return "" if row is None else str(row)
