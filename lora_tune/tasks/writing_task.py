"""What tasks share whose answers are texts: how likely a model finds one, and what it writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.errors import DataError
from lora_tune.metrics import PERPLEXITY, Measure
from lora_tune.prompts import asked_columns, named_columns, read_pair, take_prompt
from lora_tune.recipe import DataConfig
from lora_tune.rows import Split
from lora_tune.tasks.task import IGNORED, Rival, token_loss
from lora_tune.texts import ROW

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

TARGET_BYTES = "target_bytes"  # of the text that a row's judged tokens stand for, in UTF-8


@dataclass(frozen=True)
class Likelihood:
    """How likely a model finds a text."""

    perplexity: float

    @property
    def label(self) -> str:
        """The perplexity."""
        return self.tell()

    def tell(self) -> str:
        """Say the perplexity."""
        return f"perplexity {self.perplexity:.1f}"

    def cells(self) -> dict[str, Any]:
        """The perplexity."""
        return {"perplexity": self.perplexity}


@dataclass(frozen=True)
class Completion:
    """What a model writes after a prompt."""

    text: str

    @property
    def label(self) -> str:
        """The text."""
        return self.text

    def tell(self) -> str:
        """Say the text."""
        return self.text

    def cells(self) -> dict[str, Any]:
        """The text."""
        return {"completion": self.text}


@dataclass(frozen=True)
class WritingTask:
    """A language model; only what answers an input is judged. Of inputs, see `prompts.py`."""

    name: str = ""
    measure: Measure = PERPLEXITY
    metrics: tuple[str, ...] = ("perplexity", "bits_per_byte", "token_accuracy")
    falling: tuple[str, ...] = ("perplexity", "bits_per_byte")
    problem_type: None = None
    has_head: bool = False
    has_classes: bool = False
    linear: None = None  # a row has several answers
    is_encoder_decoder: bool = False
    pipeline: str = "text-generation"
    limits: str = "What it writes may be untrue."

    def known_labels(self, config: DataConfig) -> list[str]:
        """None are needed."""
        return []

    def find_labels(self, rows: "Dataset", config: DataConfig) -> list[str]:
        """Name none."""
        return []

    def asked_columns(self, config: DataConfig) -> list[str]:
        """The conversation, the text, or the columns that the prompt is filled with."""
        return asked_columns(config)

    def take_row(
        self, row: Mapping[str, Any], config: DataConfig, tokenizer: "PreTrainedTokenizerBase"
    ) -> Any:
        """Fill the prompt, or begin a chat, as in training."""
        return take_prompt(row, config, tokenizer)

    def loss(
        self,
        logits: "torch.Tensor",
        labels: "torch.Tensor",
        *,
        items: Any,
        smoothing: float,
        weights: "torch.Tensor | None" = None,
    ) -> "torch.Tensor":
        """Cross-entropy of logits (rows, tokens, vocabulary) and the tokens they foretell."""
        return token_loss(*self.foretold(logits, labels), items=items, smoothing=smoothing)

    def encode_prompts(
        self, inputs: Sequence[Any], tokenizer: "PreTrainedTokenizerBase", max_length: int
    ) -> list[list[int]]:
        """Tokenise prompts alone, each cut to max_length tokens."""
        raise NotImplementedError

    def foretold(
        self, logits: "torch.Tensor", labels: "torch.Tensor"
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Put logits (rows, tokens, vocabulary) beside the labels (rows, tokens) they foretell."""
        return logits, labels

    def read(self, logits: "torch.Tensor", labels: "torch.Tensor | None") -> list[np.ndarray]:
        """Keep log-probabilities in nats, of the token that is there and of the likeliest."""
        import torch

        assert labels is not None
        kept = []
        for row, own in zip(*self.foretold(logits, labels), strict=True):
            judged = own != IGNORED
            shares = row[judged].log_softmax(dim=-1)
            there = shares.gather(1, own[judged].unsqueeze(1)).squeeze(1)
            kept.append(torch.stack([there, shares.amax(dim=1)], dim=1).cpu().numpy())
        return kept

    def decide(self, answers: np.ndarray) -> np.ndarray:
        """Whether each token is the likeliest, (tokens,)."""
        return answers[:, 0] >= answers[:, 1]

    def count(self, answers: Sequence[np.ndarray], split: Split) -> np.ndarray:
        """Count (nats, tokens)."""
        return np.array([(-row[:, 0].sum(dtype=float), len(row)) for row in answers])

    def score(self, answers: Sequence[np.ndarray], split: Split) -> dict[str, float]:
        """Perplexity, bits for each byte of text, share of tokens foretold, and loss in nats."""
        nats, tokens = self.count(answers, split).sum(axis=0)
        size = sum(split.encoded[TARGET_BYTES])
        return {
            "perplexity": float(np.exp(nats / tokens)),
            "bits_per_byte": float(nats / np.log(2) / size),
            "token_accuracy": float(np.concatenate(list(map(self.decide, answers))).mean()),
            "loss": float(nats / tokens),
        }

    def break_down(self, answers: Sequence[np.ndarray], split: Split) -> list[dict[str, Any]]:
        """Give nothing: texts are of no type."""
        return []

    def cell_names(self, labels: Sequence[str]) -> list[str]:
        """The completion."""
        return ["completion"]

    def tell(self, answers: np.ndarray, given: Any, labels: Sequence[str]) -> Likelihood:
        """How likely a row's tokens are."""
        return Likelihood(float(np.exp(-answers[:, 0].mean())))

    def answer_without_model(self, train: Split, test: Split) -> Mapping[str, Rival]:
        """Give none."""
        return {}

    def tally(self, labels: np.ndarray, names: Sequence[str]) -> Mapping[str, int]:
        """Count nothing: texts bear no label."""
        return {}


def template_columns(config: DataConfig) -> list[tuple[str, str]]:
    """The columns that inputs and their answers are made of, each with the key that names it."""
    templates = {"prompt": config.prompt, "completion": config.completion, "system": config.system}
    columns = [(key, name) for key in templates for name in named_columns(templates[key])]
    return [*([("messages", config.messages)] if config.messages else []), *columns]


def fill_templates(
    rows: "Dataset", config: DataConfig, *, where: str
) -> tuple[list[Any], list[str], list[str]]:
    """Read conversations, or fill the recipe's prompt and completion from each row's columns.

    Returns:
        Inputs, their texts and their answers, as people read them.

    Raises:
        DataError: a completion is empty, or what should be a conversation is none.
    """
    inputs, texts, answers = [], [], []
    for place, row in zip(rows[ROW], rows, strict=True):
        try:
            given, text, answer = read_pair(row, config)
        except DataError as error:
            raise DataError(f"{where}: row {place} (rows count from 0), {error}") from None
        inputs.append(given)
        texts.append(text)
        answers.append(answer)
    return inputs, texts, answers
