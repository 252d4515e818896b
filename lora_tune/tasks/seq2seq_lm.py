"""Text to text: an encoder reads the prompt, a decoder writes the completion (T5, BART)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.config.data import DataConfig
from lora_tune.data.rows import RowBatch
from lora_tune.data.table import Table
from lora_tune.tasks.language_modeling import TARGET_BYTES, LanguageModeling, fill_templates
from lora_tune.tasks.task import Generation

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class EncoderDecoderGeneration:
    """Generation by a decoder that attends to the encoded prompt."""

    is_encoder_decoder: bool = True

    def tokenize_prompts(
        self, inputs: Sequence[Any], tokenizer: "PreTrainedTokenizerBase", max_length: int
    ) -> list[list[int]]:
        """Tokenize prompts, truncated on the tokenizer's side."""
        prompts = [given["prompt"] for given in inputs]
        ids: list[list[int]] = tokenizer(prompts, truncation=True, max_length=max_length)[
            "input_ids"
        ]
        return ids

    def align_labels(
        self, logits: "torch.Tensor", labels: "torch.Tensor"
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Leave both as they are: the collator has shifted the decoder's inputs."""
        return logits, labels


@dataclass(frozen=True)
class SequenceToSequence(LanguageModeling):
    """An encoder with a decoder; prompt and completion are tokenized apart."""

    name: str = "seq2seq_lm"
    auto_class: str = "AutoModelForSeq2SeqLM"
    data_keys: tuple[str, ...] = ("prompt", "completion")
    required_keys: tuple[str, ...] = ("prompt", "completion")
    peft_task_type: str = "SEQ_2_SEQ_LM"
    collator: str = "DataCollatorForSeq2Seq"  # pads labels, and shifts them for the decoder
    generation: Generation = EncoderDecoderGeneration()

    def read(self, rows: Table, config: DataConfig, labels: Sequence[str]) -> Iterator[RowBatch]:
        """Fill the recipe's templates from each row's columns."""
        columns = [name for _, name in self.columns(config)]
        for inputs, _, completions in fill_templates(rows, config, columns):
            texts = [f"{given['prompt']}\n{given['completion']}" for given in inputs]
            yield RowBatch(texts, inputs, np.zeros(len(texts)), completions)

    def tokenize(
        self,
        inputs: Sequence[Any],
        labels: np.ndarray | None,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
    ) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Tokenize prompts for the encoder and completions for the decoder, each truncated.

        A row's token count is that of the longer of the two.
        """
        prompts = tokenizer([given["prompt"] for given in inputs])["input_ids"]
        targets = tokenizer(text_target=[given["completion"] for given in inputs])["input_ids"]
        counts = [max(map(len, pair)) for pair in zip(prompts, targets, strict=True)]
        # The end token stays, and a completion keeps its beginning, whichever side is truncated.
        kept = [
            ids if len(ids) <= max_length else [*ids[: max_length - 1], ids[-1]] for ids in targets
        ]
        input_ids = self.generation.tokenize_prompts(inputs, tokenizer, max_length)
        texts = tokenizer.batch_decode(kept, skip_special_tokens=True)
        columns: dict[str, list[Any]] = {
            "input_ids": input_ids,
            "attention_mask": [[1] * len(ids) for ids in input_ids],
            "labels": kept,
            TARGET_BYTES: [len(text.encode()) for text in texts],
        }
        return columns, np.array(counts)
