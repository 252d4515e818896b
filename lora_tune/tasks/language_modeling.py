"""What language models share: likelihoods, prompts and completions. Inputs: see data/prompts.py."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.config.data import DataConfig
from lora_tune.data.arrow_store import BATCH_ROWS
from lora_tune.data.batching import IGNORE_INDEX
from lora_tune.data.columns import named_columns, text_columns
from lora_tune.data.prompts import input_columns, preprocess_prompt, read_training_row
from lora_tune.data.rows import Split
from lora_tune.data.table import Table
from lora_tune.errors import DataError, RowError
from lora_tune.metrics.metric import PERPLEXITY, Metric
from lora_tune.tasks.task import OutputKind, Task
from lora_tune.tasks.token_loss import token_loss

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

TARGET_BYTES = "target_bytes"  # of the text that a row's labeled tokens decode to, in UTF-8


@dataclass(frozen=True)
class Likelihood:
    """How probable a text is to a model."""

    perplexity: float

    @property
    def label(self) -> str:
        """The perplexity."""
        return self.describe()

    def describe(self) -> str:
        """Format the perplexity."""
        return f"perplexity {self.perplexity:.1f}"

    def cells(self) -> dict[str, Any]:
        """The perplexity."""
        return {"perplexity": self.perplexity}


@dataclass(frozen=True)
class LanguageModeling(Task):
    """A task whose loss and likelihoods are of tokens, and whose model generates text."""

    output_kind: OutputKind = "text"
    primary_metric: Metric = PERPLEXITY
    metric_names: tuple[str, ...] = ("perplexity", "bits_per_byte", "token_accuracy")
    has_head: bool = False

    def columns(self, config: DataConfig, *, labeled: bool = True) -> list[tuple[str, str]]:
        """The conversation, the text, or the columns that the templates name."""
        if not labeled:
            return [("text", name) for name in input_columns(config)]
        if config.messages is None and config.completion is None:
            return [("text", name) for name in text_columns(config.text)]
        templates = {
            "prompt": config.prompt,
            "completion": config.completion,
            "system": config.system,
        }
        columns = [(key, name) for key in templates for name in named_columns(templates[key])]
        return [*([("messages", config.messages)] if config.messages else []), *columns]

    def labels(self, config: DataConfig, tables: Sequence[Table] = ()) -> list[str]:
        """None."""
        return []

    def preprocess_row(
        self, row: Mapping[str, Any], config: DataConfig, tokenizer: "PreTrainedTokenizerBase"
    ) -> Any:
        """Fill the prompt, or begin a chat, as in training."""
        return preprocess_prompt(row, config, tokenizer)

    def loss(
        self,
        logits: "torch.Tensor",
        labels: "torch.Tensor",
        *,
        items: Any,
        smoothing: float,
        weights: "torch.Tensor | None" = None,
    ) -> "torch.Tensor":
        """Compute the cross-entropy of logits (rows, tokens, vocabulary)."""
        assert self.generation is not None
        aligned = self.generation.align_labels(logits, labels)
        return token_loss(*aligned, items=items, smoothing=smoothing)

    def extract_outputs(
        self, logits: "torch.Tensor", labels: "torch.Tensor | None"
    ) -> list[np.ndarray]:
        """Keep log-probabilities in nats, (tokens, 2): of the token and of the best one."""
        import torch

        assert labels is not None
        assert self.generation is not None
        kept = []
        for row, own in zip(*self.generation.align_labels(logits, labels), strict=True):
            counted = own != IGNORE_INDEX
            log_probabilities = row[counted].log_softmax(dim=-1)
            true = log_probabilities.gather(1, own[counted].unsqueeze(1)).squeeze(1)
            kept.append(torch.stack([true, log_probabilities.amax(dim=1)], dim=1).cpu().numpy())
        return kept

    def metric_counts(self, outputs: Sequence[np.ndarray], split: Split) -> np.ndarray:
        """Count (nats, tokens)."""
        return np.array([(-row[:, 0].sum(dtype=float), len(row)) for row in outputs])

    def compute_metrics(self, outputs: Sequence[np.ndarray], split: Split) -> dict[str, float]:
        """Compute perplexity, bits per byte of text, token accuracy, and loss in nats."""
        nats, tokens = self.metric_counts(outputs, split).sum(axis=0)
        size = sum(split.encoded[TARGET_BYTES][:])
        return {
            "perplexity": float(np.exp(nats / tokens)),
            "bits_per_byte": float(nats / np.log(2) / size),
            "token_accuracy": float(np.concatenate(list(map(self.decide, outputs))).mean()),
            "loss": float(nats / tokens),
        }

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """Whether each token is the most probable one, (tokens,)."""
        return outputs[:, 0] >= outputs[:, 1]

    def format(self, outputs: np.ndarray, given: Any, labels: Sequence[str]) -> Likelihood:
        """How probable a row's tokens are."""
        return Likelihood(float(np.exp(-outputs[:, 0].mean())))

    def prediction_columns(self, labels: Sequence[str]) -> list[str]:
        """The completion."""
        return ["completion"]


def fill_templates(
    rows: Table, config: DataConfig, columns: Sequence[str]
) -> Iterator[tuple[list[Any], list[str], list[str]]]:
    """Read conversations, or fill the recipe's prompt and completion from each row's columns.

    Args:
        columns: that the recipe needs.

    Yields:
        Inputs, their texts and their completions, as people read them, for a batch of rows.

    Raises:
        RowError: a completion is empty, or a cell is not a conversation.
    """
    numbered = enumerate(rows.rows(columns))
    for batch in iter(lambda: list(islice(numbered, BATCH_ROWS)), []):
        inputs, texts, completions = [], [], []
        for number, row in batch:
            try:
                given, text, completion = read_training_row(row, config)
            except DataError as error:
                raise RowError(number, str(error)) from None
            inputs.append(given)
            texts.append(text)
            completions.append(completion)
        yield inputs, texts, completions
