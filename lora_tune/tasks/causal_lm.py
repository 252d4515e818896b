"""Text after text: a language model on plain texts, or on completions of prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.chats import encode_chats
from lora_tune.errors import DataError
from lora_tune.metrics import PERPLEXITY, Measure
from lora_tune.prompts import asked_columns, named_columns, read_pair, take_prompt
from lora_tune.recipe import DataConfig
from lora_tune.rows import Split
from lora_tune.tasks.task import IGNORED, Rival, token_loss
from lora_tune.texts import ROW, read_texts

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
class CausalLanguageModeling:
    """What sets this task apart from others. An input is {prompt, completion} or {messages}."""

    name: str = "causal_lm"
    auto_class: str = "AutoModelForCausalLM"
    peft_task_type: str = "CAUSAL_LM"
    collator: str = "DataCollatorForTokenClassification"  # pads labels as it pads tokens
    measure: Measure = PERPLEXITY
    metrics: tuple[str, ...] = ("perplexity", "bits_per_byte", "token_accuracy")
    falling: tuple[str, ...] = ("perplexity", "bits_per_byte")
    problem_type: None = None
    has_head: bool = False
    has_classes: bool = False
    linear: None = None  # a row has several answers
    generates: bool = True
    pipeline: str = "text-generation"
    pipeline_options: str = ""
    purpose: str = "to write on"
    limits: str = "What it writes may be untrue."

    def columns(self, config: DataConfig) -> list[tuple[str, str]]:
        """The conversation, the text, or the columns that the templates are filled with."""
        system = [("system", name) for name in named_columns(config.system)]
        if config.messages is not None:
            return [("messages", config.messages), *system]
        if config.completion is None:
            return [("text", config.text)]
        templates = {"prompt": config.prompt, "completion": config.completion}
        return [(key, name) for key in templates for name in named_columns(templates[key])] + system

    def known_labels(self, config: DataConfig) -> list[str]:
        """None are needed."""
        return []

    def find_labels(self, rows: "Dataset", config: DataConfig) -> list[str]:
        """Name none."""
        return []

    def read_rows(
        self, rows: "Dataset", config: DataConfig, labels: Sequence[str], *, where: str
    ) -> tuple[list[str], list[Any], np.ndarray, list[str]]:
        """Read plain texts or conversations, or fill the recipe's templates with each row."""
        if config.truncation_side == "left":
            raise DataError("data.truncation_side: left would cut first words; expected right")
        if config.completion is None and config.messages is None:
            texts = read_texts(rows, config.text, where=where)
            inputs = [{"prompt": "", "completion": text} for text in texts]
            return texts, inputs, np.zeros(len(texts)), texts
        texts, inputs, told = [], [], []
        for place, row in zip(rows[ROW], rows, strict=True):
            try:
                given, text, answer = read_pair(row, config)
            except DataError as error:
                raise DataError(f"{where}: row {place} (rows count from 0), {error}") from None
            inputs.append(given)
            texts.append(text)
            told.append(answer)
        return texts, inputs, np.zeros(len(texts)), told

    def encode(
        self,
        inputs: Sequence[Any],
        labels: np.ndarray | None,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int | None,
    ) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Tokenise: what is given, which is not judged, and what is learnt, with its end.

        Raises:
            RowError: the chat template does not take a conversation.
        """
        if "messages" in inputs[0]:
            rows = encode_chats([given["messages"] for given in inputs], tokenizer)
        else:
            rows = _encode_prompts(inputs, tokenizer)
        columns: dict[str, list[Any]] = {
            name: [] for name in ("input_ids", "attention_mask", "labels", TARGET_BYTES)
        }
        counts = []
        begin = start_tokens(tokenizer)
        for ids, learnt in rows:
            counts.append(len(ids))
            if max_length is not None and len(ids) > max_length:
                ids, learnt = _cut(ids, learnt, begin, max_length)
            judged = [number if own else IGNORED for number, own in zip(ids, learnt, strict=True)]
            columns["input_ids"].append(ids)
            columns["attention_mask"].append([1] * len(ids))
            columns["labels"].append(judged)
            kept = [number for number in judged if number != IGNORED]
            text = tokenizer.decode(kept, skip_special_tokens=True)
            columns[TARGET_BYTES].append(len(text.encode()))
        return columns, np.array(counts)

    def asked_columns(self, config: DataConfig) -> list[str]:
        """The conversation, the text, or the columns that the prompt is filled with."""
        return asked_columns(config)

    def take_row(
        self, row: Mapping[str, Any], config: DataConfig, tokenizer: "PreTrainedTokenizerBase"
    ) -> Any:
        """Fill the prompt, or begin a chat, as in training."""
        return take_prompt(row, config, tokenizer)

    def encode_training(
        self,
        inputs: Sequence[Any],
        labels: np.ndarray,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
    ) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Lay plain texts end to end and cut them into blocks; leave all else as it is."""
        if any("messages" in given or given["prompt"] for given in inputs):
            return self.encode(inputs, labels, tokenizer, max_length)
        columns, counts = self.encode(inputs, labels, tokenizer, None)
        stream: list[int] = []
        for ids in columns["input_ids"]:
            stream += ids[1:] if stream and ids[0] == stream[-1] else ids
        blocks = [stream[at : at + max_length] for at in range(0, len(stream), max_length)]
        blocks = [block for block in blocks if len(block) > 1]
        packed = {
            "input_ids": blocks,
            "attention_mask": [[1] * len(block) for block in blocks],
            "labels": [[IGNORED, *block[1:]] for block in blocks],  # nothing foretells the first
        }
        return packed, counts

    def loss(
        self,
        logits: "torch.Tensor",
        labels: "torch.Tensor",
        *,
        items: Any,
        smoothing: float,
        weights: "torch.Tensor | None" = None,
    ) -> "torch.Tensor":
        """Cross-entropy of logits (micro-batch, tokens, vocabulary) and the tokens after them."""
        return token_loss(logits[:, :-1], labels[:, 1:], items=items, smoothing=smoothing)

    def read(self, logits: "torch.Tensor", labels: "torch.Tensor | None") -> list[np.ndarray]:
        """Keep log-probabilities in nats, of the token that is there and of the likeliest."""
        import torch

        assert labels is not None
        kept = []
        for row, own in zip(logits[:, :-1], labels[:, 1:], strict=True):
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


def start_tokens(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """What stands before the first token, so that it is foretold too."""
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    return next(([number] for number in ids if number is not None), [])


def _encode_prompts(
    inputs: Sequence[Any], tokenizer: "PreTrainedTokenizerBase"
) -> list[tuple[list[int], list[bool]]]:
    """Tokenise prompts and completions apart, as when a prompt is written on.

    Returns:
        Of each row, its tokens, and whether each is learnt.
    """
    start = start_tokens(tokenizer)
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    prompts, completions = (
        tokenizer([given[name] for given in inputs], add_special_tokens=False)["input_ids"]
        for name in ("prompt", "completion")
    )
    rows = []
    for prompt, completion in zip(prompts, completions, strict=True):
        before, learnt = start + prompt, completion + end
        rows.append((before + learnt, [False] * len(before) + [True] * len(learnt)))
    return rows


def _cut(
    ids: list[int], learnt: list[bool], begin: list[int], max_length: int
) -> tuple[list[int], list[bool]]:
    """Cut what is too long: the prompt loses its beginning, down to half of the room, all its end.

    Args:
        begin: tokens that stay at the beginning, where they stand there.
    """
    first = len(begin) if ids[: len(begin)] == begin else 0
    prompt = next((at for at, own in enumerate(learnt) if own), len(ids)) - first
    room, rest = max_length - first, len(ids) - first - prompt
    after = first + max(0, prompt - max(room - rest, room // 2))
    return (ids[:first] + ids[after:])[:max_length], (learnt[:first] + learnt[after:])[:max_length]
