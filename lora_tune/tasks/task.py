"""What a task is: its data, and the functions that differ from task to task."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from lora_tune.config.data import DataConfig
from lora_tune.config.generation import GenerationConfig
from lora_tune.config.recipe import Sections
from lora_tune.config.validation import Problems
from lora_tune.data.batching import IGNORE_INDEX
from lora_tune.data.rows import RowBatch, Split
from lora_tune.data.table import Table
from lora_tune.metrics.metric import Metric
from lora_tune.metrics.text import TEXT_METRICS

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

# What a row's outputs stand for: one class, any of several labels, a number, a tag for each word,
# a text, or a span of a text.
OutputKind = Literal["class", "labels", "value", "tags", "text", "span"]
# How token states become one prediction for a text: as the model's own head does, or their mean.
Pooling = Literal["model", "mean"]
TEMPLATES = ("prompt", "completion")  # keys of `data:` whose values hold names of columns


class Prediction(Protocol):
    """The prediction for one row, as people read it."""

    @property
    def label(self) -> str:
        """The prediction, written as a row's label is."""

    def describe(self) -> str:
        """Format the prediction in a few words."""

    def cells(self) -> dict[str, Any]:
        """Give its columns in a file of predictions."""


class Generation(Protocol):
    """The optional part of a task whose model generates text."""

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether an encoder reads the prompt, and a decoder writes the completion."""

    def tokenize_prompts(
        self, inputs: Sequence[Any], tokenizer: "PreTrainedTokenizerBase", max_length: int
    ) -> list[list[int]]:
        """Tokenize prompts alone, each truncated to max_length tokens."""

    def align_labels(
        self, logits: "torch.Tensor", labels: "torch.Tensor"
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Align logits (rows, tokens, vocabulary) with the labels (rows, tokens) they predict."""


@dataclass(frozen=True)
class Task:
    """One task. Subclasses set the fields and implement the functions below.

    Shapes: a row's *outputs* are an array (outputs, numbers): one output for a row with one label,
    one for each word or token otherwise.
    """

    name: str  # in a recipe
    auto_class: str  # the class of models in transformers
    peft_task_type: str
    collator: str  # the class in transformers that pads its batches
    output_kind: OutputKind
    primary_metric: Metric  # decides a comparison
    metric_names: tuple[str, ...]  # all that is computed, besides the loss
    problem_type: str | None = None  # in a transformers configuration
    has_head: bool = True  # whether the model gets a head of its own, which is trained in full
    data_keys: tuple[str, ...] = ()  # of a recipe's `data:`, those that not every task has
    required_keys: tuple[str, ...] = ()  # of these, those that must be set
    generation: Generation | None = None
    pooling: Pooling = "model"

    @property
    def has_classes(self) -> bool:
        """Whether each row has one class of several."""
        return self.output_kind == "class"

    # Reading rows

    def check_recipe(self, recipe: Sections) -> Problems:
        """Yield the keys of a recipe for this task that are missing or do not fit together."""
        for key in self.required_keys:
            if getattr(recipe.data, key) is None:
                hint = ", such as '{column}'" if key in TEMPLATES else "; name a column"
                yield f"data.{key}", f"is needed by task: {self.name}{hint}"

    def columns(self, config: DataConfig, *, labeled: bool = True) -> list[tuple[str, str]]:
        """List the columns that a row must have, each with the recipe key below `data` for it.

        Args:
            labeled: False for the columns that an input is made of when its label is not known.
        """
        raise NotImplementedError

    def labels(self, config: DataConfig, tables: Sequence[Table] = ()) -> list[str] | None:
        """List the label names in the order of their ids; empty where the task has none.

        Args:
            tables: rows to find labels in; none for the labels that are known without rows.

        Returns:
            The names; None where they are not known without rows.

        Raises:
            DataError: the label column of the rows does not hold labels of this task.
        """
        raise NotImplementedError

    def read(self, rows: Table, config: DataConfig, labels: Sequence[str]) -> Iterator[RowBatch]:
        """Read rows, batch by batch; none of them lacks its text or its label.

        Args:
            labels: the label names in the order of their ids.

        Raises:
            RowError: a row is not as it should be.
            DataError: several rows are not.
        """
        raise NotImplementedError

    def preprocess_row(
        self, row: Mapping[str, Any], config: DataConfig, tokenizer: "PreTrainedTokenizerBase"
    ) -> Any:
        """Turn an unlabeled row into an input of `tokenize`.

        Args:
            row: has the columns of `columns(config, labeled=False)`.

        Raises:
            DataError: what is wrong with the row; the caller knows where it is.
        """
        raise NotImplementedError

    def label_counts(self, labels: np.ndarray, names: Sequence[str]) -> Mapping[str, int]:
        """Count a split's rows, or what they hold, by label; empty where rows have no labels."""
        return {}

    # Model inputs and outputs

    def tokenize(
        self,
        inputs: Sequence[Any],
        labels: np.ndarray | None,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
    ) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Tokenize inputs: truncated, not padded.

        Args:
            labels: (rows, ...); None where they are not known.
            max_length: tokens of a row, special tokens included.

        Returns:
            The model's columns, a list for each row; and token counts before truncation, (rows,).
        """
        raise NotImplementedError

    def tokenize_training(
        self,
        batches: Iterable[tuple[Sequence[Any], np.ndarray]],
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
    ) -> Iterator[tuple[dict[str, list[Any]], np.ndarray]]:
        """Tokenize training rows, which may become other rows, such as blocks of several texts.

        Args:
            batches: inputs and labels of consecutive rows.
            max_length: tokens of a row, special tokens included.

        Yields:
            The model's columns and the token counts, as `tokenize` returns them.
        """
        for inputs, labels in batches:
            yield self.tokenize(inputs, labels, tokenizer, max_length)

    def logits(self, model_output: Any) -> "torch.Tensor":
        """Take the logits from a model's output object."""
        return model_output.logits

    def is_counted(self, labels: "torch.Tensor") -> "torch.Tensor":
        """Whether each label is an item of the loss, which is a mean over items."""
        return labels != IGNORE_INDEX

    def loss(
        self,
        logits: "torch.Tensor",
        labels: "torch.Tensor",
        *,
        items: Any,
        smoothing: float,
        weights: "torch.Tensor | None" = None,
    ) -> "torch.Tensor":
        """Compute one micro-batch's share of an optimizer step's mean loss.

        Args:
            items: labels of the whole step that count (`is_counted`), over all its micro-batches.
            smoothing: label smoothing, from 0 to 1.
            weights: (classes,), the loss weight of each class, where rows have classes.
        """
        raise NotImplementedError

    def extract_outputs(
        self, logits: "torch.Tensor", labels: "torch.Tensor | None"
    ) -> list[np.ndarray]:
        """Extract each row's outputs, (outputs, numbers), from a batch's fp32 logits.

        Args:
            labels: of the batch; None where there are none.
        """
        raise NotImplementedError

    # Metrics and predictions

    def metric_counts(self, outputs: Sequence[np.ndarray], split: Split) -> np.ndarray:
        """Count what each row adds to the primary metric, (rows, counts)."""
        raise NotImplementedError

    def compute_metrics(self, outputs: Sequence[np.ndarray], split: Split) -> dict[str, float]:
        """Compute all metrics and the loss."""
        raise NotImplementedError

    @property
    def chosen_threshold(self) -> float | None:
        """The probability from which a label is predicted, where rows have several labels."""
        return None

    @property
    def has_open_threshold(self) -> bool:
        """Whether `tune` has something to choose."""
        return False

    def tune(self, outputs: Sequence[np.ndarray], split: Split) -> "Task":
        """Choose what a recipe leaves open, such as a threshold, by outputs for a split's rows.

        Returns:
            The task with the choice; the same object where there is none.
        """
        return self

    def metrics_by_group(self, outputs: Sequence[np.ndarray], split: Split) -> list[dict[str, Any]]:
        """Compute metrics by label or type, one table row each; empty where there are none."""
        return []

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """Turn a row's (outputs, numbers) into discrete decisions, (outputs,), to count changes."""
        raise NotImplementedError

    def format(self, outputs: np.ndarray, given: Any, labels: Sequence[str]) -> Prediction:
        """Format a row's (outputs, numbers) as a prediction.

        Args:
            given: the row's input.
            labels: the names of the labels.
        """
        raise NotImplementedError

    def prediction_columns(self, labels: Sequence[str]) -> list[str]:
        """Name the columns of `Prediction.cells`."""
        raise NotImplementedError


def primary_metric_of(task: Task, config: GenerationConfig) -> Metric:
    """The metric that decides a comparison: of generated texts where the recipe names one."""
    return TEXT_METRICS[config.metric] if config.metric else task.primary_metric
