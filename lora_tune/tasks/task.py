"""What a task has to say for itself, so that the rest of a run need not know which it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lora_tune.linear import LinearAnswers
from lora_tune.metrics import Measure
from lora_tune.recipe import DataConfig
from lora_tune.rows import Split

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # the label of a token that is not judged, in transformers


class Answer(Protocol):
    """One row's prediction, as people read it."""

    @property
    def label(self) -> str:
        """What it says, as a row's label is written."""

    def tell(self) -> str:
        """Say it in a few words."""

    def cells(self) -> dict[str, Any]:
        """Give its columns in a file of predictions."""


@dataclass(frozen=True)
class Rival:
    """Answers to rows that took no model."""

    answers: list[np.ndarray]  # (answers, numbers) of each row
    size: int  # numbers that were fitted
    note: str
    texts: list[str] | None = None  # that were written; no answers then


class Task(Protocol):
    """What sets one task apart from others."""

    @property
    def name(self) -> str:
        """Its name in a recipe."""

    @property
    def auto_class(self) -> str:
        """Its class of models in transformers."""

    @property
    def peft_task_type(self) -> str:
        """Its name in PEFT."""

    @property
    def collator(self) -> str:
        """The class in transformers that pads its batches."""

    @property
    def measure(self) -> Measure:
        """What a comparison decides by."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """All that is measured, beside the loss."""

    @property
    def falling(self) -> tuple[str, ...]:
        """Those of the metrics that are the better the lower they are."""

    @property
    def problem_type(self) -> str | None:
        """What transformers calls it, where it does, in a model's configuration."""

    @property
    def has_head(self) -> bool:
        """Whether the model gets a head of its own, which is trained whole."""

    @property
    def has_classes(self) -> bool:
        """Whether each row bears one class of several."""

    @property
    def linear(self) -> LinearAnswers | None:
        """How linear models answer; None where a row has several answers."""

    @property
    def pipeline(self) -> str:
        """Its name among the pipelines of transformers, and of the Hub's tasks."""

    @property
    def pipeline_options(self) -> str | None:
        """What such a pipeline is to be given, as Python; None where transformers has none."""

    @property
    def purpose(self) -> str:
        """What an adapter of it is for, as an infinitive; may hold {labels}."""

    @property
    def limits(self) -> str:
        """A sentence on what it always answers."""

    def columns(self, config: DataConfig) -> list[tuple[str, str]]:
        """Name the columns it reads, each with the recipe key below `data` that asks for it."""

    def known_labels(self, config: DataConfig) -> list[str] | None:
        """Name the labels, so far as they are known without rows; None where they are not."""

    def find_labels(self, rows: "Dataset", config: DataConfig) -> list[str]:
        """Name the labels in the order of their numbers, from the training rows; may be empty."""

    def read_rows(
        self, rows: "Dataset", config: DataConfig, labels: Sequence[str], *, where: str
    ) -> tuple[list[str], list[Any], np.ndarray, list[str]]:
        """Read raw rows: their texts, inputs, labels (rows, ...), and labels as people read them.

        Args:
            where: the split, for errors.

        Raises:
            DataError: a row is not as it should be.
        """

    def encode(
        self,
        inputs: Sequence[Any],
        labels: np.ndarray | None,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
    ) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Tokenise inputs: the model's columns, and token counts before truncation, (rows,).

        Args:
            labels: (rows, ...); None where they are not known.
        """

    def asked_columns(self, config: DataConfig) -> list[str]:
        """Name the columns that a user's row must have: those an input is made of."""

    def take_row(
        self, row: Mapping[str, Any], config: DataConfig, tokenizer: "PreTrainedTokenizerBase"
    ) -> Any:
        """Turn a user's row, which has the columns asked for, into an input.

        Raises:
            DataError: what is wrong with it; not where it stands.
        """

    def encode_training(
        self,
        inputs: Sequence[Any],
        labels: np.ndarray,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
    ) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Tokenise training rows, perhaps into other rows; see `encode`."""

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
            items: judged labels of the whole step, over all its micro-batches.
            smoothing: of labels, from 0 to 1.
            weights: (classes,), of the loss of each class's rows, where rows have classes.
        """

    def read(self, logits: "torch.Tensor", labels: "torch.Tensor | None") -> list[np.ndarray]:
        """Take from a batch's fp32 logits what there is to keep, (answers, numbers) for each row.

        Args:
            labels: of the batch; None where there are none.
        """

    def decide(self, answers: np.ndarray) -> np.ndarray:
        """Turn a row's (answers, numbers) into its decisions, (answers,)."""

    def count(self, answers: Sequence[np.ndarray], split: Split) -> np.ndarray:
        """Count what each row adds to the measure, (rows, counts)."""

    def score(self, answers: Sequence[np.ndarray], split: Split) -> dict[str, float]:
        """Compute all metrics and the loss."""

    def break_down(self, answers: Sequence[np.ndarray], split: Split) -> list[dict[str, Any]]:
        """Score parts of the answers, a row of a table for each; may be empty."""

    def cell_names(self, labels: Sequence[str]) -> list[str]:
        """Name the columns of its answers in a file of predictions."""

    def tell(self, answers: np.ndarray, given: Any, labels: Sequence[str]) -> Answer:
        """Turn a row's (answers, numbers) into words.

        Args:
            given: the row's input.
            labels: the names of the labels.
        """

    def answer_without_model(self, train: Split, test: Split) -> Mapping[str, Rival]:
        """Answer test rows by what training rows tell without a model, where no linear model can.

        Returns:
            By the name of the rung.
        """

    def tally(self, labels: np.ndarray, names: Sequence[str]) -> Mapping[str, int]:
        """Count a split's rows, or what they hold, by label."""


def token_loss(
    logits: "torch.Tensor", labels: "torch.Tensor", *, items: Any, smoothing: float
) -> "torch.Tensor":
    """Cross-entropy of logits (rows, tokens, choices) and labels (rows, tokens), a share of items.

    Args:
        labels: IGNORED where a token is not judged.
        items: judged labels of the whole step, over all its micro-batches.
        smoothing: of labels, from 0 to 1.
    """
    from torch.nn.functional import cross_entropy

    total = cross_entropy(
        logits.float().flatten(0, 1),
        labels.flatten(),
        reduction="sum",
        ignore_index=IGNORED,
        label_smoothing=smoothing,
    )
    return total / items
