"""A model run over rows: its outputs in the order of the rows, and the metrics of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.data.batching import batches_by_length, model_inputs
from lora_tune.data.rows import Split
from lora_tune.metrics.classification import softmax
from lora_tune.tasks import Task

if TYPE_CHECKING:
    import torch
    from torch.nn import Module


# Tokens of a forward pass at most, padding included.
CPU_TOKENS = 8_192
GPU_TOKENS = 65_536  # 32 rows of 2,048
MAX_LOGITS = 200_000_000  # at once


@dataclass(frozen=True)
class Evaluation:
    """A model's outputs on one split, and their metrics."""

    outputs: list[np.ndarray]  # (outputs, numbers) of each row; see `Task`
    metrics: dict[str, float]
    counts: np.ndarray  # (rows, counts), what each row adds to the primary metric
    task: Task  # with the threshold that was chosen, where rows have several labels
    texts: list[str] | None = None  # generated for each row, where texts are generated

    def metrics_by_group(self, split: Split) -> list[dict[str, Any]]:
        """Compute the metrics by label or type on the split of the outputs; see `Task`."""
        return self.task.metrics_by_group(self.outputs, split)

    @cached_property
    def logits(self) -> np.ndarray:
        """Class logits, (rows, classes), where each row has one output."""
        return np.concatenate(self.outputs)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Class probabilities, (rows, classes)."""
        return softmax(self.logits)

    @cached_property
    def predictions(self) -> np.ndarray:
        """The id of each row's most probable class, (rows,)."""
        return self.logits.argmax(axis=1)


def evaluate_outputs(outputs: Sequence[np.ndarray], split: Split, task: Task) -> Evaluation:
    """Compute the metrics of a model's outputs, (outputs, numbers) for each row of a split."""
    counts = task.metric_counts(outputs, split)
    primary = task.primary_metric
    metrics: dict[str, Any] = {primary.name: primary.from_sums(counts.sum(axis=0))}
    metrics |= task.compute_metrics(outputs, split)
    # Python's own floats: numpy's are not plain YAML, which a model card holds.
    numbers = {name: float(v) for name, v in metrics.items()}
    return Evaluation(list(outputs), numbers, counts, task)


def tune(evaluation: Evaluation, validation: Split, task: Task) -> Evaluation:
    """Choose what a task leaves open, by a model's outputs on the validation rows themselves."""
    tuned = task.tune(evaluation.outputs, validation)
    return evaluation if tuned is task else evaluate_outputs(evaluation.outputs, validation, tuned)


def evaluate_model(
    model: "Module",
    split: Split,
    *,
    task: Task,
    collate: Callable[..., Any],
    title: str,
    max_rows: int | None = None,
) -> Evaluation:
    """Run a model over a split and compute its metrics; its training mode is left as it was.

    Args:
        title: of the progress bar; empty for none.
        max_rows: of a batch; None for as many as fit into its tokens.
    """
    outputs = compute_outputs(
        model, split.encoded[:], task=task, collate=collate, max_rows=max_rows, title=title
    )
    return evaluate_outputs(outputs, split, task)


def compute_outputs(
    model: "Module",
    columns: Mapping[str, Sequence[Any]],
    *,
    task: Task,
    collate: Callable[..., Any],
    title: str,
    max_rows: int | None = None,
) -> list[np.ndarray]:
    """Run a model over tokenized rows, batched by length.

    Args:
        columns: input_ids and whatever else the model takes, a list for each row.
        title: of the progress bar; empty for none.
        max_rows: of a batch; None for as many as fit into its tokens.

    Returns:
        What the task extracts from the logits, in fp32, (outputs, numbers) for each row in order.
    """
    logits_per_token = 0
    if task.generation is not None:  # as many as the vocabulary has tokens
        logits_per_token = model.config.get_text_config().vocab_size
    order: list[np.ndarray] = []
    outputs: list[np.ndarray] = []
    for batch, _, labels, model_output in run_batches(
        model,
        columns,
        collate=collate,
        title=title,
        max_rows=max_rows,
        logits_per_token=logits_per_token,
    ):
        order.append(batch)
        outputs.extend(task.extract_outputs(task.logits(model_output).float(), labels))
    return [outputs[i] for i in np.argsort(np.concatenate(order))]


def run_batches(
    model: "Module",
    columns: Mapping[str, Sequence[Any]],
    *,
    collate: Callable[..., Any],
    title: str,
    max_rows: int | None = None,
    logits_per_token: int = 0,
) -> Iterator[tuple[np.ndarray, Mapping[str, Any], "torch.Tensor | None", Any]]:
    """Run a model over tokenized rows, the longest first; its training mode is left as it was.

    Args:
        max_rows: of a batch; None for as many as fit into its tokens.
        logits_per_token: that the model computes for each of a row's labels; 0 where they are few.

    Yields:
        Row numbers, the model's inputs, the labels that came with them, and its output object, for
        each batch.
    """
    import torch
    from tqdm import tqdm

    rows = model_inputs(dict(columns))
    device = next(model.parameters()).device
    token_budget = forward_token_budget(model)
    lengths = np.array([len(row["input_ids"]) for row in rows])
    if logits_per_token:  # labels count as tokens, by their share of the logits that fit
        label_counts = np.array([len(row["labels"]) for row in rows])
        lengths = np.maximum(lengths, label_counts * logits_per_token / MAX_LOGITS * token_budget)
    was_training = model.training
    model.eval()
    hidden = None if title else True  # None: hidden where there is no terminal
    try:
        with tqdm(total=len(rows), desc=title, unit="row", disable=hidden, leave=False) as bar:
            for batch in batches_by_length(lengths, token_budget, max_rows):
                inputs = collate([rows[i] for i in batch]).to(device)
                labels = inputs.pop("labels", None)
                with torch.inference_mode():
                    model_output = model(**inputs)
                yield batch, inputs, labels, model_output
                bar.update(len(batch))
    finally:
        model.train(was_training)


def forward_token_budget(model: "Module") -> int:
    """How many tokens may go through a model at once on its device, padding included."""
    return CPU_TOKENS if next(model.parameters()).device.type == "cpu" else GPU_TOKENS


def restore_order(batches: Sequence[np.ndarray], results: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate the results of batches of row numbers, in the order of the rows."""
    return np.concatenate(results)[np.argsort(np.concatenate(batches))]
