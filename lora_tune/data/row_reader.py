"""The part of a task that loading rows needs; `tasks/task.py` implements it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lora_tune.config.data import DataConfig

if TYPE_CHECKING:
    from datasets import Dataset
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

    def labels(self, config: DataConfig, rows: "Dataset | None" = None) -> list[str] | None:
        """List the label names in the order of their IDs."""

    def read(
        self, rows: "Dataset", config: DataConfig, labels: Sequence[str], *, where: str
    ) -> tuple[list[str], list[Any], np.ndarray, list[str]]:
        """Read texts, inputs, labels (rows, ...) and label texts."""

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
        *,
        training: bool = False,
    ) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Tokenize inputs, truncated to max_length tokens."""
