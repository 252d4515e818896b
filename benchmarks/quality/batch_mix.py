"""How ways of ordering training rows mix lengths and classes in a batch, without training."""

from collections.abc import Callable, Sequence

import numpy as np

EPOCHS = 30
RANDOM, GROUPED, OWN = "random order", "Trainer, group_by_length", "lora_tune"


def measure_batches(
    lengths: np.ndarray, labels: np.ndarray, batch_size: int
) -> dict[str, dict[str, float]]:
    """Measure the full batches of some epochs in each order.

    Args:
        lengths: (rows,), in tokens.
        labels: (rows,), class IDs.
        batch_size: rows.

    Returns:
        For each order: `padding`, the share of tokens that are padding; and `class_variance`, the
        variance of a batch's class shares over that of rows drawn independently. Where it is 2, a
        batch tells as little about the class shares as an independent one of half as many rows.
    """
    classes = np.eye(labels.max() + 1)[labels]  # (rows, classes)
    independent = classes.var(axis=0).sum() / batch_size
    measured = {}
    for name, order in _orders(lengths, batch_size).items():
        batches = np.concatenate([_full_batches(order(e), batch_size) for e in range(EPOCHS)])
        widths = lengths[batches].max(axis=1, keepdims=True)  # (batches, 1)
        measured[name] = {
            "padding": float(1 - lengths[batches].sum() / (widths.sum() * batch_size)),
            "class_variance": float(classes[batches].mean(axis=1).var(axis=0).sum() / independent),
        }
    return measured


def _orders(
    lengths: np.ndarray, batch_size: int
) -> dict[str, Callable[[int], Sequence[int] | np.ndarray]]:
    """For each order, what returns the row numbers of an epoch."""
    import torch
    from transformers.trainer_pt_utils import get_length_grouped_indices

    from lora_tune.data.batching import StepBatches

    own = StepBatches(lengths, batch_size, accumulation=1, seed=0)

    def group(epoch: int) -> Sequence[int]:
        generator = torch.Generator().manual_seed(epoch)
        rows: list[int] = get_length_grouped_indices(
            lengths.tolist(), batch_size, generator=generator
        )
        return rows

    def step(epoch: int) -> np.ndarray:
        own.set_epoch(epoch)
        return np.concatenate(own.steps())

    return {
        RANDOM: lambda epoch: np.random.default_rng(epoch).permutation(len(lengths)),
        GROUPED: group,
        OWN: step,
    }


def _full_batches(rows: Sequence[int] | np.ndarray, batch_size: int) -> np.ndarray:
    """Cut rows into batches, (batches, rows), without a last one that is not full."""
    count = len(rows) // batch_size
    return np.asarray(rows)[: count * batch_size].reshape(count, batch_size)
