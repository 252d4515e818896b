"""Texts that a model writes after prompts, and how close they come to a split's completions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lora_tune.batching import batches_by_length
from lora_tune.evaluation import Evaluation, evaluate_model, find_token_budget
from lora_tune.metrics import Measure
from lora_tune.recipe import GenerationConfig
from lora_tune.rows import Split
from lora_tune.tasks import Task
from lora_tune.tasks.writing_task import WritingTask
from lora_tune.text_metrics import TEXT_MEASURES, count_texts

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedTokenizerBase

MOST_PROMPTS = 16  # at once: what is kept of each grows with a model's layers and heads


@dataclass(frozen=True)
class Writer:
    """What it takes to let a model write."""

    tokenizer: "PreTrainedTokenizerBase"
    task: WritingTask
    config: GenerationConfig

    @property
    def measure(self) -> Measure:
        """What a comparison decides by: of what was written, or else of how likely texts are."""
        return TEXT_MEASURES[self.config.metric] if self.config.metric else self.task.measure

    def write(self, model: "Module", inputs: Sequence[Any], *, title: str = "") -> list[str]:
        """Write after each prompt what is likeliest, or what a beam search finds.

        What else the base's own generation_config.json asks for, such as a penalty for what is
        repeated, holds too.

        Args:
            inputs: of the task.
            title: of a progress bar; empty for none.
        """
        import torch
        from tqdm import tqdm

        prompts = self.task.encode_prompts(inputs, self.tokenizer, self._room(model))
        side = "right" if self.task.is_encoder_decoder else "left"  # next to what is written
        device = next(model.parameters()).device
        lengths = [len(prompt) + self.config.max_new_tokens for prompt in prompts]
        budget = find_token_budget(model) // self.config.num_beams
        written = [""] * len(prompts)
        was_training = model.training
        model.eval()
        hidden = None if title else True  # None: hidden where there is no terminal
        try:
            with tqdm(
                total=len(prompts), desc=title, unit="row", disable=hidden, leave=False
            ) as bar:
                for rows in batches_by_length(lengths, budget, MOST_PROMPTS):
                    padded = self.tokenizer.pad(
                        {"input_ids": [prompts[i] for i in rows]},
                        padding_side=side,
                        return_tensors="pt",
                    ).to(device)
                    with torch.inference_mode():
                        found = model.generate(
                            **padded,
                            max_new_tokens=self.config.max_new_tokens,
                            num_beams=self.config.num_beams,
                            do_sample=False,
                            eos_token_id=self._ends(model),
                            pad_token_id=self.tokenizer.pad_token_id,
                        )
                    if not self.task.is_encoder_decoder:
                        found = found[:, padded["input_ids"].shape[1] :]
                    texts = self.tokenizer.batch_decode(found, skip_special_tokens=True)
                    for i, text in zip(rows, texts, strict=True):
                        written[i] = text
                    bar.update(len(rows))
        finally:
            model.train(was_training)
        return written

    def _room(self, model: "Module") -> int:
        """How many tokens a prompt may have; a decoder writes in the places that it leaves."""
        places = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        if self.task.is_encoder_decoder or places is None:
            return int(self.tokenizer.model_max_length)
        return int(places) - self.config.max_new_tokens

    def _ends(self, model: "Module") -> list[int]:
        """The tokens that end a text: the tokenizer's, and those that the base itself stops at."""
        own = model.generation_config.eos_token_id
        ends = {self.tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])}
        return sorted(end for end in ends if end is not None)


def find_measure_of(task: Task, writer: Writer | None) -> Measure:
    """What a comparison decides by."""
    return writer.measure if writer else task.measure


def find_writer(
    task: Task, tokenizer: "PreTrainedTokenizerBase", config: GenerationConfig
) -> Writer | None:
    """Give a task what it takes to write; None where its answers are no texts."""
    return Writer(tokenizer, task, config) if isinstance(task, WritingTask) else None


def evaluate_test(
    model: "Module",
    split: Split,
    task: Task,
    *,
    collate: Callable[..., Any],
    writer: Writer | None,
    title: str,
) -> Evaluation:
    """Evaluate a model as `evaluate_model` does, and by what it writes where that decides."""
    evaluation = evaluate_model(model, split, task=task, collate=collate, title=title)
    if writer is None or writer.config.metric is None:
        return evaluation
    texts = writer.write(model, split.rows.inputs, title=f"{title}, writing")
    return judge_texts(texts, split, writer.measure, evaluation)


def judge_texts(
    texts: Sequence[str], split: Split, measure: Measure, evaluation: Evaluation | None = None
) -> Evaluation:
    """Score what was written for each row of a split.

    Args:
        measure: what a comparison will decide by.
        evaluation: of the same model on the same rows; None where there is no model.
    """
    counts = count_texts(texts, split.rows.label_texts)
    metrics = {
        name: float(TEXT_MEASURES[name].of(rows.sum(axis=0))) for name, rows in counts.items()
    }
    before = evaluation or Evaluation([], {}, counts[measure.name])
    return replace(
        before,
        metrics=metrics | before.metrics,
        counts=counts[measure.name],
        texts=list(texts),
    )
