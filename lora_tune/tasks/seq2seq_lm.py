"""Text to text: an encoder reads the prompt, a decoder writes the completion (T5, BART)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.recipe import DataConfig
from lora_tune.rows import Split
from lora_tune.tasks.task import Rival
from lora_tune.tasks.writing_task import (
    TARGET_BYTES,
    WritingTask,
    fill_templates,
    template_columns,
)

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

LEAD = "lead"


@dataclass(frozen=True)
class SequenceToSequence(WritingTask):
    """What sets this task apart from others: prompt and completion are read apart."""

    name: str = "seq2seq_lm"
    auto_class: str = "AutoModelForSeq2SeqLM"
    peft_task_type: str = "SEQ_2_SEQ_LM"
    collator: str = "DataCollatorForSeq2Seq"  # pads labels, and shifts them for the decoder
    is_encoder_decoder: bool = True
    pipeline_options: None = None
    purpose: str = "to write a text for a text"

    def columns(self, config: DataConfig) -> list[tuple[str, str]]:
        """The columns that prompt and completion are made of."""
        return template_columns(config)

    def read_rows(
        self, rows: "Dataset", config: DataConfig, labels: Sequence[str], *, where: str
    ) -> tuple[list[str], list[Any], np.ndarray, list[str]]:
        """Fill the recipe's templates from each row's columns."""
        inputs, _, told = fill_templates(rows, config, where=where)
        texts = [f"{given['prompt']}\n{given['completion']}" for given in inputs]
        return texts, inputs, np.zeros(len(texts)), told

    def encode(
        self,
        inputs: Sequence[Any],
        labels: np.ndarray | None,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
    ) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Tokenise prompts for the encoder and completions for the decoder, each truncated.

        A row's token count is that of the longer of the two.
        """
        prompts = tokenizer([given["prompt"] for given in inputs])["input_ids"]
        written = tokenizer(text_target=[given["completion"] for given in inputs])["input_ids"]
        counts = [max(map(len, pair)) for pair in zip(prompts, written, strict=True)]
        # The end stays, and of a completion the beginning, whichever side prompts are cut on.
        kept = [
            ids if len(ids) <= max_length else [*ids[: max_length - 1], ids[-1]] for ids in written
        ]
        columns: dict[str, list[Any]] = {
            "input_ids": self.encode_prompts(inputs, tokenizer, max_length)
        }
        columns["attention_mask"] = [[1] * len(ids) for ids in columns["input_ids"]]
        columns["labels"] = kept
        texts = tokenizer.batch_decode(kept, skip_special_tokens=True)
        columns[TARGET_BYTES] = [len(text.encode()) for text in texts]
        return columns, np.array(counts)

    def encode_training(
        self,
        inputs: Sequence[Any],
        labels: np.ndarray,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
    ) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Tokenise training rows as all others."""
        return self.encode(inputs, labels, tokenizer, max_length)

    def encode_prompts(
        self, inputs: Sequence[Any], tokenizer: "PreTrainedTokenizerBase", max_length: int
    ) -> list[list[int]]:
        """Tokenise prompts, cut on the tokenizer's side."""
        prompts = [given["prompt"] for given in inputs]
        ids: list[list[int]] = tokenizer(prompts, truncation=True, max_length=max_length)[
            "input_ids"
        ]
        return ids

    def answer_without_model(self, train: Split, test: Split) -> Mapping[str, Rival]:
        """Repeat the beginning of each prompt, as many words as a completion has in train.

        Words that all prompts begin with, such as the recipe's template, are left out.
        """
        prompts = [given["prompt"].split() for given in train.rows.inputs]
        columns = list(zip(*prompts, strict=False))  # the first words of all, the second, ...
        shared = next((n for n, words in enumerate(columns) if len(set(words)) > 1), 0)
        lengths = [len(given["completion"].split()) for given in train.rows.inputs]
        kept = round(float(np.median(lengths)))
        texts = [
            " ".join(given["prompt"].split()[shared : shared + kept]) for given in test.rows.inputs
        ]
        return {
            LEAD: Rival([], 0, f"{kept} words of each prompt, from word {shared + 1} on", texts)
        }
