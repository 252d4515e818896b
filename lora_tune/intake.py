"""A user's rows made into a task's inputs, as its training rows were."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_tune.errors import DataError
from lora_tune.recipe import DataConfig
from lora_tune.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Row = str | Mapping[str, Any]  # the one text that is asked for, or columns by name


@dataclass(frozen=True)
class Intake:
    """What a model wants of a row, and how that becomes an input."""

    task: Task
    data: DataConfig  # the recipe's columns and templates
    tokenizer: "PreTrainedTokenizerBase"

    @property
    def columns(self) -> list[str]:
        """The columns that a row must have."""
        return self.task.asked_columns(self.data)

    def take(self, row: Row) -> Any:
        """Turn a row into an input.

        Raises:
            DataError: what is wrong with it; not where it stands.
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
        return self.task.take_row(
            {name: row[name] for name in self.columns}, self.data, self.tokenizer
        )

    def take_all(self, rows: Sequence[Row], *, where: str) -> list[Any]:
        """Turn rows into inputs.

        Args:
            where: they come from, for the error.

        Raises:
            DataError: a row is not as it should be.
        """
        inputs = []
        for number, row in enumerate(rows):
            try:
                inputs.append(self.take(row))
            except DataError as error:
                raise DataError(f"{where}, row {number} (rows count from 0): {error}") from None
        return inputs


def show_row(row: Any) -> str:
    """Show a row as one text: what its columns hold, one below the other."""
    if isinstance(row, Mapping):
        row = list(row.values())
    if isinstance(row, list):
        return "\n".join(filter(None, map(show_row, row)))
    return "" if row is None else str(row)
