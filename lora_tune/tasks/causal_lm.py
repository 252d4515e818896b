"""Causal language modeling: on plain texts, on completions of prompts, or on chats."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.config.data import DataConfig
from lora_tune.config.recipe import Sections
from lora_tune.config.validation import Problems
from lora_tune.data.batching import IGNORE_INDEX
from lora_tune.data.chats import tokenize_chats
from lora_tune.data.columns import fill_text, text_columns
from lora_tune.data.prompts import render_prompt
from lora_tune.data.rows import RowBatch
from lora_tune.data.table import Table
from lora_tune.errors import DataError
from lora_tune.tasks.language_modeling import TARGET_BYTES, LanguageModeling, fill_templates
from lora_tune.tasks.task import Generation

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class DecoderGeneration:
    """Generation by a decoder, which continues the prompt."""

    is_encoder_decoder: bool = False

    def tokenize_prompts(
        self, inputs: Sequence[Any], tokenizer: "PreTrainedTokenizerBase", max_length: int
    ) -> list[list[int]]:
        """Tokenize prompts; what is too long loses its beginning.

        Raises:
            DataError: the chat template does not take a conversation.
        """
        begin = start_tokens(tokenizer)
        prompts = [render_prompt(given, tokenizer) for given in inputs]
        rows = tokenizer(prompts, add_special_tokens=False)["input_ids"]
        if "messages" not in inputs[0]:  # a chat template has written its own start token
            rows = [begin + row for row in rows]
        kept = []
        for row in rows:
            first = len(begin) if row[: len(begin)] == begin else 0
            room = max(1, max_length - first)
            kept.append(row[:first] + row[max(first, len(row) - room) :])
        return kept

    def align_labels(
        self, logits: "torch.Tensor", labels: "torch.Tensor"
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Align each token's logits with the token after it."""
        return logits[:, :-1], labels[:, 1:]


@dataclass(frozen=True)
class CausalLanguageModeling(LanguageModeling):
    """A decoder, which reads and generates in one sequence."""

    name: str = "causal_lm"
    auto_class: str = "AutoModelForCausalLM"
    data_keys: tuple[str, ...] = ("prompt", "completion", "messages", "chat_template", "system")
    peft_task_type: str = "CAUSAL_LM"
    collator: str = "DataCollatorForTokenClassification"  # pads labels as it pads tokens
    generation: Generation = DecoderGeneration()

    def check_recipe(self, recipe: Sections) -> Problems:
        """Yield a metric of generated texts that has no prompt to generate from."""
        has_prompt = recipe.data.messages is not None or "{" in (recipe.data.prompt or "")
        if recipe.generation.metric is not None and not has_prompt:
            yield (
                "generation.metric",
                "needs something to answer: data.prompt with {column}, or data.messages",
            )

    def read(self, rows: Table, config: DataConfig, labels: Sequence[str]) -> Iterator[RowBatch]:
        """Read plain texts or conversations, or fill the recipe's templates with each row."""
        if config.truncation_side == "left":
            raise DataError("data.truncation_side: left would cut first words; expected right")
        columns = [name for _, name in self.columns(config)]
        if config.messages is None and config.completion is None:
            for batch in rows.batches(text_columns(config.text)):
                cells = zip(*batch.values(), strict=True)
                filled = [dict(zip(batch, row, strict=True)) for row in cells]
                texts = [fill_text(config.text, row) for row in filled]
                plain = [{"prompt": "", "completion": text} for text in texts]
                yield RowBatch(texts, plain, np.zeros(len(texts)), texts)
            return
        for inputs, texts, completions in fill_templates(rows, config, columns):
            yield RowBatch(texts, inputs, np.zeros(len(texts)), completions)

    def tokenize(
        self,
        inputs: Sequence[Any],
        labels: np.ndarray | None,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
    ) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Tokenize prompts, whose labels are ignored, and completions with their end token.

        Raises:
            RowError: the chat template does not take a conversation.
        """
        return _tokenize(inputs, tokenizer, max_length)

    def tokenize_training(
        self,
        batches: Iterable[tuple[Sequence[Any], np.ndarray]],
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
    ) -> Iterator[tuple[dict[str, list[Any]], np.ndarray]]:
        """Tokenize rows; plain texts are concatenated and cut into blocks of max_length tokens."""
        batches = iter(batches)
        first = next(batches)
        whole = chain([first], batches)
        if any("messages" in given or given["prompt"] for given in first[0]):
            yield from super().tokenize_training(whole, tokenizer, max_length)
        else:
            tokenized = (_tokenize(inputs, tokenizer, None) for inputs, _ in whole)
            yield from _pack(tokenized, max_length)


def start_tokens(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """What precedes the first token, so that it is predicted too."""
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    return next(([number] for number in ids if number is not None), [])


def _tokenize(
    inputs: Sequence[Any], tokenizer: "PreTrainedTokenizerBase", max_length: int | None
) -> tuple[dict[str, list[Any]], np.ndarray]:
    if "messages" in inputs[0]:
        rows = tokenize_chats([given["messages"] for given in inputs], tokenizer)
    else:
        rows = _tokenize_pairs(inputs, tokenizer)
    columns: dict[str, list[Any]] = {
        name: [] for name in ("input_ids", "attention_mask", "labels", TARGET_BYTES)
    }
    counts = []
    begin = start_tokens(tokenizer)
    for ids, is_label in rows:
        counts.append(len(ids))
        if max_length is not None and len(ids) > max_length:
            ids, is_label = _truncate(ids, is_label, begin, max_length)
        labels = [
            number if own else IGNORE_INDEX for number, own in zip(ids, is_label, strict=True)
        ]
        columns["input_ids"].append(ids)
        columns["attention_mask"].append([1] * len(ids))
        columns["labels"].append(labels)
        kept = [number for number in labels if number != IGNORE_INDEX]
        text = tokenizer.decode(kept, skip_special_tokens=True)
        columns[TARGET_BYTES].append(len(text.encode()))
    return columns, np.array(counts)


def _pack(
    batches: Iterable[tuple[dict[str, list[Any]], np.ndarray]], max_length: int
) -> Iterator[tuple[dict[str, list[Any]], np.ndarray]]:
    """Concatenate texts and cut them into blocks; the rest of a batch begins the next."""
    stream: list[int] = []
    last = None  # the token before the next text
    for columns, counts in batches:
        for ids in columns["input_ids"]:
            stream += ids[1:] if ids[0] == last else ids
            last = ids[-1]
        whole = len(stream) // max_length * max_length
        yield _blocks(stream[:whole], max_length), counts
        stream = stream[whole:]
    if len(stream) > 1:
        yield _blocks(stream, max_length), np.array([], dtype=int)


def _blocks(stream: list[int], max_length: int) -> dict[str, list[Any]]:
    blocks = [stream[at : at + max_length] for at in range(0, len(stream), max_length)]
    return {
        "input_ids": blocks,
        "attention_mask": [[1] * len(block) for block in blocks],
        "labels": [[IGNORE_INDEX, *block[1:]] for block in blocks],  # nothing precedes the first
    }


def _tokenize_pairs(
    inputs: Sequence[Any], tokenizer: "PreTrainedTokenizerBase"
) -> list[tuple[list[int], list[bool]]]:
    """Tokenize prompts and completions apart, as when a prompt is continued.

    Returns:
        For each row, its tokens, and whether each is a label.
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


def _truncate(
    ids: list[int], is_label: list[bool], begin: list[int], max_length: int
) -> tuple[list[int], list[bool]]:
    """Truncate a row: the prompt loses its beginning, down to half of max_length, then the end.

    Args:
        begin: tokens that stay at the beginning, where they are there.
    """
    first = len(begin) if ids[: len(begin)] == begin else 0
    prompt = next((at for at, own in enumerate(is_label) if own), len(ids)) - first
    room, rest = max_length - first, len(ids) - first - prompt
    after = first + max(0, prompt - max(room - rest, room // 2))
    return (
        (ids[:first] + ids[after:])[:max_length],
        (is_label[:first] + is_label[after:])[:max_length],
    )
