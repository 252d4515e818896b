"""Texts generated after prompts, and their metrics against a split's completions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lora_tune.config.generation import GenerationConfig
from lora_tune.data.batching import batches_by_length
from lora_tune.data.rows import Split
from lora_tune.evaluation.model_evaluation import Evaluation, evaluate_model, forward_token_budget
from lora_tune.metrics.metric import Metric
from lora_tune.metrics.text import TEXT_METRICS, text_metric_counts
from lora_tune.tasks import Generation, Task, primary_metric_of

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedTokenizerBase

MAX_PROMPTS = 16  # at once: the key-value cache of each grows with a model's layers and heads


@dataclass(frozen=True)
class Completion:
    """The text generated after a prompt."""

    text: str

    @property
    def label(self) -> str:
        """The text."""
        return self.text

    def describe(self) -> str:
        """The text."""
        return self.text

    def cells(self) -> dict[str, Any]:
        """The text."""
        return {"completion": self.text}


@dataclass(frozen=True)
class TextGenerator:
    """Generates texts with a task's models."""

    tokenizer: "PreTrainedTokenizerBase"
    task: Generation
    config: GenerationConfig

    def generate(self, model: "Module", inputs: Sequence[Any], *, title: str = "") -> list[str]:
        """Generate the most probable text after each prompt, greedily or by beam search.

        What else the base model's generation_config.json sets, such as a repetition penalty, holds
        too.

        Args:
            inputs: of the task.
            title: of a progress bar; empty for none.
        """
        import torch
        from tqdm import tqdm

        prompts = self.task.tokenize_prompts(inputs, self.tokenizer, self._prompt_room(model))
        side = "right" if self.task.is_encoder_decoder else "left"  # next to what is generated
        device = next(model.parameters()).device
        lengths = [len(prompt) + self.config.max_new_tokens for prompt in prompts]
        budget = forward_token_budget(model) // self.config.num_beams
        texts = [""] * len(prompts)
        was_training = model.training
        model.eval()
        hidden = None if title else True  # None: hidden where there is no terminal
        try:
            with tqdm(
                total=len(prompts), desc=title, unit="row", disable=hidden, leave=False
            ) as bar:
                for rows in batches_by_length(lengths, budget, MAX_PROMPTS):
                    padded = self.tokenizer.pad(
                        {"input_ids": [prompts[i] for i in rows]},
                        padding_side=side,
                        return_tensors="pt",
                    ).to(device)
                    with torch.inference_mode():
                        ids = model.generate(
                            **padded,
                            max_new_tokens=self.config.max_new_tokens,
                            num_beams=self.config.num_beams,
                            do_sample=False,
                            eos_token_id=self._end_tokens(model),
                            pad_token_id=self.tokenizer.pad_token_id,
                        )
                    if not self.task.is_encoder_decoder:
                        ids = ids[:, padded["input_ids"].shape[1] :]
                    decoded = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
                    for i, text in zip(rows, decoded, strict=True):
                        texts[i] = text
                    bar.update(len(rows))
        finally:
            model.train(was_training)
        return texts

    def _prompt_room(self, model: "Module") -> int:
        """How many tokens a prompt may have; a decoder needs positions for what it generates."""
        positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        if self.task.is_encoder_decoder or positions is None:
            return int(self.tokenizer.model_max_length)
        return int(positions) - self.config.max_new_tokens

    def _end_tokens(self, model: "Module") -> list[int]:
        """The tokens that end a text: the tokenizer's, and those of the base model itself."""
        own = model.generation_config.eos_token_id
        ends = {self.tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])}
        return sorted(end for end in ends if end is not None)


def make_generator(
    task: Task, tokenizer: "PreTrainedTokenizerBase", config: GenerationConfig
) -> TextGenerator | None:
    """Make a task's text generator; None where the task does not generate texts."""
    return None if task.generation is None else TextGenerator(tokenizer, task.generation, config)


def evaluate_test(
    model: "Module",
    split: Split,
    task: Task,
    *,
    collate: Callable[..., Any],
    generator: TextGenerator | None,
    title: str,
) -> Evaluation:
    """Evaluate a model as `evaluate_model` does, and by generated texts where a metric needs them.

    Args:
        title: of the progress bars.
    """
    evaluation = evaluate_model(model, split, task=task, collate=collate, title=title)
    if generator is None or generator.config.metric is None:
        return evaluation
    texts = generator.generate(model, split.rows.inputs, title=f"{title}, generation")
    metric = primary_metric_of(task, generator.config)
    return evaluate_texts(texts, split, task, metric=metric, evaluation=evaluation)


def evaluate_texts(
    texts: Sequence[str],
    split: Split,
    task: Task,
    *,
    metric: Metric,
    evaluation: Evaluation | None = None,
) -> Evaluation:
    """Compute the metrics of a text generated for each row of a split.

    Args:
        metric: the primary metric.
        evaluation: of the same model on the same rows; None where there is no model.
    """
    counts = text_metric_counts(texts, split.rows.label_texts)
    metrics = {
        name: float(TEXT_METRICS[name].from_sums(rows.sum(axis=0))) for name, rows in counts.items()
    }
    before = evaluation or Evaluation([], {}, counts[metric.name], task)
    return replace(
        before,
        metrics=metrics | before.metrics,
        counts=counts[metric.name],
        texts=list(texts),
    )
