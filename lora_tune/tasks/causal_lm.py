"""Text after text: a language model on plain texts, or on completions of prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.chats import encode_chats
from lora_tune.errors import DataError
from lora_tune.prompts import write_prompt
from lora_tune.recipe import DataConfig
from lora_tune.tasks.task import IGNORED
from lora_tune.tasks.writing_task import (
    TARGET_BYTES,
    WritingTask,
    fill_templates,
    template_columns,
)
from lora_tune.texts import read_texts

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class CausalLanguageModeling(WritingTask):
    """What sets this task apart from others: a decoder, which reads and writes in one."""

    name: str = "causal_lm"
    auto_class: str = "AutoModelForCausalLM"
    peft_task_type: str = "CAUSAL_LM"
    collator: str = "DataCollatorForTokenClassification"  # pads labels as it pads tokens
    pipeline_options: str = ""
    purpose: str = "to write on"

    def columns(self, config: DataConfig) -> list[tuple[str, str]]:
        """The conversation, the text, or the columns that the templates are filled with."""
        if config.messages is None and config.completion is None:
            return [("text", config.text)]
        return template_columns(config)

    def read_rows(
        self, rows: "Dataset", config: DataConfig, labels: Sequence[str], *, where: str
    ) -> tuple[list[str], list[Any], np.ndarray, list[str]]:
        """Read plain texts or conversations, or fill the recipe's templates with each row."""
        if config.truncation_side == "left":
            raise DataError("data.truncation_side: left would cut first words; expected right")
        if config.messages is None and config.completion is None:
            texts = read_texts(rows, config.text, where=where)
            inputs = [{"prompt": "", "completion": text} for text in texts]
            return texts, inputs, np.zeros(len(texts)), texts
        inputs, texts, told = fill_templates(rows, config, where=where)
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

    def encode_prompts(
        self, inputs: Sequence[Any], tokenizer: "PreTrainedTokenizerBase", max_length: int
    ) -> list[list[int]]:
        """Tokenise prompts; what is too long loses its beginning.

        Raises:
            DataError: the chat template does not take a conversation.
        """
        begin = start_tokens(tokenizer)
        prompts = [write_prompt(given, tokenizer) for given in inputs]
        rows = tokenizer(prompts, add_special_tokens=False)["input_ids"]
        if "messages" not in inputs[0]:  # a chat template has written what begins a text
            rows = [begin + row for row in rows]
        kept = []
        for row in rows:
            first = len(begin) if row[: len(begin)] == begin else 0
            room = max(1, max_length - first)
            kept.append(row[:first] + row[max(first, len(row) - room) :])
        return kept

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

    def foretold(
        self, logits: "torch.Tensor", labels: "torch.Tensor"
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Put each token's logits beside the token after it."""
        return logits[:, :-1], labels[:, 1:]


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
