"""The part of a task that loading rows needs; `tasks/task.py` implements it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lora_tune.config.data import DataConfig
from lora_tune.data.rows import RowBatch
from lora_tune.data.table import Table

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class RowReader(Protocol):
    """A task, as far as it turns rows into tokens; `Task` documents arguments and results."""

    @property
    def name(self) -> str:
        """The task's name in a recipe."""

    @property
    def collator(self) -> str:
        """The class in transformers that pads its batches."""

    @property
    def has_classes(self) -> bool:
        """Whether each row has one class of several."""

    @property
    def generation(self) -> Any:
        """How it generates text; None where it does not."""

    def columns(self, config: DataConfig, *, labeled: bool = True) -> list[tuple[str, str]]:
        """List the columns that a row must have, with their recipe keys."""

    def labels(self, config: DataConfig, tables: Sequence[Table] = ()) -> list[str] | None:
        """List the label names in the order of their IDs."""

    def read(self, rows: Table, config: DataConfig, labels: Sequence[str]) -> Iterator[RowBatch]:
        """Read texts, inputs and labels, batch by batch."""

    def preprocess_row(
        self, row: Mapping[str, Any], config: DataConfig, tokenizer: "PreTrainedTokenizerBase"
    ) -> Any:
        """Turn an unlabeled row into an input."""

    def label_counts(self, labels: np.ndarray, names: Sequence[str]) -> Mapping[str, int]:
        """Count rows by label."""

    def tokenize(
        self,
        inputs: Sequence[Any],
        labels: np.ndarray | None,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
    ) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Tokenize inputs, truncated to max_length tokens."""

    def tokenize_training(
        self,
        batches: Iterable[tuple[Sequence[Any], np.ndarray]],
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
    ) -> Iterator[tuple[dict[str, list[Any]], np.ndarray]]:
        """Tokenize batches of training rows, which may become other rows, such as blocks."""
