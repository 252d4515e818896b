"""A model's answers on rows, in the order of the rows, and how good they are."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.batching import batches_by_length, model_inputs
from lora_tune.metrics import softmax
from lora_tune.rows import Split
from lora_tune.tasks import Task
from lora_tune.tasks.writing_task import WritingTask

if TYPE_CHECKING:
    import torch
    from torch.nn import Module


# Most tokens of a forward pass, padding counted.
CPU_TOKENS = 8_192
GPU_TOKENS = 65_536  # 32 rows of 2,048
MOST_LOGITS = 200_000_000  # at once


@dataclass(frozen=True)
class Evaluation:
    """What a model answered on one split, and how well."""

    answers: list[np.ndarray]  # of each row, (answers, numbers); the task says what they are
    metrics: dict[str, float]
    counts: np.ndarray  # (rows, counts), what each row adds to what a comparison decides by
    texts: list[str] | None = None  # that it wrote for each row, where it was to

    @cached_property
    def logits(self) -> np.ndarray:
        """Class logits, (rows, classes), where each row has one answer."""
        return np.concatenate(self.answers)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Class probabilities, (rows, classes)."""
        return softmax(self.logits)

    @cached_property
    def predictions(self) -> np.ndarray:
        """The likeliest class number of each row, (rows,)."""
        return self.logits.argmax(axis=1)


def judge_answers(answers: Sequence[np.ndarray], split: Split, task: Task) -> Evaluation:
    """Score a model's answers to a split's rows, one array (answers, numbers) for each."""
    counts = task.count(answers, split)
    metrics = {task.measure.name: float(task.measure.of(counts.sum(axis=0)))}
    return Evaluation(list(answers), metrics | task.score(answers, split), counts)


def evaluate_model(
    model: "Module",
    split: Split,
    *,
    task: Task,
    collate: Callable[..., Any],
    title: str,
    most_rows: int | None = None,
) -> Evaluation:
    """Run a model over a split and score it; the model's training mode is left as it was.

    Args:
        most_rows: in a batch; None for as many as its tokens allow.
    """
    answers = answer_rows(
        model, split.encoded[:], task=task, collate=collate, most_rows=most_rows, title=title
    )
    return judge_answers(answers, split, task)


def answer_rows(
    model: "Module",
    columns: Mapping[str, Sequence[Any]],
    *,
    task: Task,
    collate: Callable[..., Any],
    title: str,
    most_rows: int | None = None,
) -> list[np.ndarray]:
    """Run a model over encoded rows, batched by length.

    Args:
        columns: input_ids and whatever else the model takes, a list for each row.
        title: of the progress bar; empty for none.
        most_rows: in a batch; None for as many as its tokens allow.

    Returns:
        What the task reads from the outputs, in fp32, (answers, numbers) for each row in order.
    """
    logits_of_token = 0
    if isinstance(task, WritingTask):  # as many as there are words, at each token
        logits_of_token = model.config.get_text_config().vocab_size
    order, answers = [], []
    for batch, _, labels, outputs in run_rows(
        model,
        columns,
        collate=collate,
        title=title,
        most_rows=most_rows,
        logits_of_token=logits_of_token,
    ):
        order.append(batch)
        answers.extend(task.read(outputs.logits.float(), labels))
    return [answers[i] for i in np.argsort(np.concatenate(order))]


def run_rows(
    model: "Module",
    columns: Mapping[str, Sequence[Any]],
    *,
    collate: Callable[..., Any],
    title: str,
    most_rows: int | None = None,
    logits_of_token: int = 0,
) -> Iterator[tuple[np.ndarray, Mapping[str, Any], "torch.Tensor | None", Any]]:
    """Run a model over encoded rows, the longest first; its training mode is left as it was.

    Args:
        most_rows: in a batch; None for as many as its tokens allow.
        logits_of_token: that the model makes for each of a row's labels; 0 where they are few.

    Yields:
        Row numbers, the model's inputs, the labels that came with them, and its outputs, for each
        batch.
    """
    import torch
    from tqdm import tqdm

    rows = model_inputs(dict(columns))
    device = next(model.parameters()).device
    token_budget = find_token_budget(model)
    lengths = np.array([len(row["input_ids"]) for row in rows])
    if logits_of_token:  # labels count as tokens, by their share of the logits that there may be
        labelled = np.array([len(row["labels"]) for row in rows])
        lengths = np.maximum(lengths, labelled * logits_of_token / MOST_LOGITS * token_budget)
    was_training = model.training
    model.eval()
    hidden = None if title else True  # None: hidden where there is no terminal
    try:
        with tqdm(total=len(rows), desc=title, unit="row", disable=hidden, leave=False) as bar:
            for batch in batches_by_length(lengths, token_budget, most_rows):
                inputs = collate([rows[i] for i in batch]).to(device)
                labels = inputs.pop("labels", None)
                with torch.inference_mode():
                    outputs = model(**inputs)
                yield batch, inputs, labels, outputs
                bar.update(len(batch))
    finally:
        model.train(was_training)


def find_token_budget(model: "Module") -> int:
    """Tell how many tokens may go through a model at once, where it is."""
    return CPU_TOKENS if next(model.parameters()).device.type == "cpu" else GPU_TOKENS


def in_order(batches: Sequence[np.ndarray], results: Sequence[np.ndarray]) -> np.ndarray:
    """Join the results of batches of row numbers, in the order of the rows."""
    return np.concatenate(results)[np.argsort(np.concatenate(batches))]
