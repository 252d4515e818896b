"""A model's answers on rows: logits in the order of the rows, and their metrics."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.batching import batches_by_length, model_inputs
from lora_tune.data import Split
from lora_tune.metrics import softmax
from lora_tune.tasks import SequenceClassification

if TYPE_CHECKING:
    from torch.nn import Module


BATCH_SIZE = 32  # rows; of like length, so that little is padded


@dataclass(frozen=True)
class Evaluation:
    """What a model answered on one split, and how well."""

    logits: np.ndarray  # (rows, classes)
    metrics: dict[str, float]

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Class probabilities, (rows, classes)."""
        return softmax(self.logits)

    @cached_property
    def predictions(self) -> np.ndarray:
        """The likeliest class number of each row, (rows,)."""
        return self.logits.argmax(axis=1)


def evaluate_model(
    model: "Module",
    split: Split,
    *,
    task: SequenceClassification,
    collate: Callable[..., Any],
    title: str,
    batch_size: int = BATCH_SIZE,
) -> Evaluation:
    """Run a model over a split and score it; the model's training mode is left as it was."""
    logits = predict_logits(
        model, split.encoded[:], collate=collate, batch_size=batch_size, title=title
    )
    return Evaluation(logits, task.score(logits, split.rows.labels))


def predict_logits(
    model: "Module",
    columns: Mapping[str, Sequence[Any]],
    *,
    collate: Callable[..., Any],
    title: str,
    batch_size: int = BATCH_SIZE,
) -> np.ndarray:
    """Run a model over encoded rows, batched by length.

    Args:
        columns: input_ids and whatever else the model takes, a list for each row.
        title: of the progress bar; empty for none.

    Returns:
        Logits in fp32, (rows, classes), in the order of the rows.
    """
    order, logits = [], []
    for batch, _, outputs in run_rows(
        model, columns, collate=collate, title=title, batch_size=batch_size
    ):
        order.append(batch)
        logits.append(outputs.logits.float().cpu().numpy())
    return in_order(order, logits)


def run_rows(
    model: "Module",
    columns: Mapping[str, Sequence[Any]],
    *,
    collate: Callable[..., Any],
    title: str,
    batch_size: int = BATCH_SIZE,
) -> Iterator[tuple[np.ndarray, Mapping[str, Any], Any]]:
    """Run a model over encoded rows, the longest first; its training mode is left as it was.

    Yields:
        Row numbers, the model's inputs and its outputs, for each batch.
    """
    import torch
    from tqdm import tqdm

    rows = model_inputs(dict(columns))
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    hidden = None if title else True  # None: hidden where there is no terminal
    try:
        with tqdm(total=len(rows), desc=title, unit="row", disable=hidden, leave=False) as bar:
            for batch in batches_by_length([len(row["input_ids"]) for row in rows], batch_size):
                inputs = collate([rows[i] for i in batch]).to(device)
                inputs.pop("labels", None)
                with torch.inference_mode():
                    outputs = model(**inputs)
                yield batch, inputs, outputs
                bar.update(len(batch))
    finally:
        model.train(was_training)


def in_order(batches: Sequence[np.ndarray], results: Sequence[np.ndarray]) -> np.ndarray:
    """Join the results of batches of row numbers, in the order of the rows."""
    return np.concatenate(results)[np.argsort(np.concatenate(batches))]
