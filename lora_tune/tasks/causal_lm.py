"""Text after text: a language model on plain texts, or on completions of prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.errors import DataError
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
        """The text; or the columns that prompt and completion are made of."""
        if config.completion is None:
            return [("text", config.text)]
        return template_columns(config)

    def read_rows(
        self, rows: "Dataset", config: DataConfig, labels: Sequence[str], *, where: str
    ) -> tuple[list[str], list[Any], np.ndarray, list[str]]:
        """Read plain texts, or fill the recipe's templates from each row's columns."""
        if config.truncation_side == "left":
            raise DataError("data.truncation_side: left would cut first words; expected right")
        if config.completion is None:
            texts = read_texts(rows, config.text, where=where)
            inputs = [{"prompt": "", "completion": text} for text in texts]
        else:
            inputs = fill_templates(rows, config, where=where)
            texts = [given["prompt"] + given["completion"] for given in inputs]
        return texts, inputs, np.zeros(len(texts)), [given["completion"] for given in inputs]

    def encode(
        self,
        inputs: Sequence[Any],
        labels: np.ndarray | None,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int | None,
    ) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Tokenise: a start token, the prompt, which is not judged, the completion and its end."""
        start = start_tokens(tokenizer)
        end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        prompts, completions = (
            tokenizer([given[name] for given in inputs], add_special_tokens=False)["input_ids"]
            for name in ("prompt", "completion")
        )
        columns: dict[str, list[Any]] = {
            name: [] for name in ("input_ids", "attention_mask", "labels", TARGET_BYTES)
        }
        counts = []
        for prompt, completion in zip(prompts, completions, strict=True):
            counts.append(len(start) + len(prompt) + len(completion) + len(end))
            # Of what is too long, the prompt loses its beginning, down to half of the room.
            room = (max_length or counts[-1]) - len(start) - len(end)
            kept_prompt = max(room - len(completion), room // 2)
            before = start + prompt[max(0, len(prompt) - kept_prompt) :]
            ids = (before + completion + end)[:max_length]
            columns["input_ids"].append(ids)
            columns["attention_mask"].append([1] * len(ids))
            columns["labels"].append([IGNORED] * min(len(before), len(ids)) + ids[len(before) :])
            kept = tokenizer.decode(ids[len(before) :], skip_special_tokens=True)
            columns[TARGET_BYTES].append(len(kept.encode()))
        return columns, np.array(counts)

    def encode_prompts(
        self, inputs: Sequence[Any], tokenizer: "PreTrainedTokenizerBase", max_length: int
    ) -> list[list[int]]:
        """Tokenise prompts; what is too long loses its beginning."""
        start = start_tokens(tokenizer)
        prompts = [given["prompt"] for given in inputs]
        rows = tokenizer(prompts, add_special_tokens=False)["input_ids"]
        room = max(1, max_length - len(start))
        return [start + row[max(0, len(row) - room) :] for row in rows]

    def encode_training(
        self,
        inputs: Sequence[Any],
        labels: np.ndarray,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
    ) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Lay plain texts end to end and cut them into blocks; leave prompts as they are."""
        if any(given["prompt"] for given in inputs):
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
