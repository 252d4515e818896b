"""Chooses among linear models: on validation rows, or by cross-validation where they are few."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from lora_tune.evaluation.linear_models import LINEAR_MODELS
from lora_tune.tasks import Task

FOLDS = 5
SEED = 0  # of the folds


def fold_rows(labels: np.ndarray) -> Iterator[np.ndarray]:
    """Divide rows into folds, by class where each has one.

    Args:
        labels: (rows, ...).

    Yields:
        Whether each row is in the fold, (rows,).
    """
    order = np.random.default_rng(SEED).permutation(len(labels))
    if labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer):
        order = order[np.argsort(labels[order], kind="stable")]  # classes spread over folds
    folds = np.empty(len(labels), dtype=int)
    folds[order] = np.arange(len(labels)) % FOLDS
    for fold in range(min(FOLDS, len(labels))):
        yield folds == fold


def cross_validate(
    features: Any, labels: np.ndarray, names: list[str], *, strength: float, task: Task
) -> np.ndarray:
    """Predict each row by a model that was fitted to the rows of other folds.

    Args:
        features: (rows, width), dense or sparse.
        labels: (rows, ...).
        strength: scikit-learn's C, the inverse of the regularization.

    Returns:
        The outputs of the task's linear models, (rows, numbers).
    """
    outputs = np.zeros((0, 0))
    for held_out in fold_rows(labels):
        model = LINEAR_MODELS[task.output_kind].fit(
            features[~held_out], labels[~held_out], names, strength
        )
        found = model.predict(features[held_out])
        if not outputs.size:
            outputs = np.zeros((len(labels), found.shape[1]))
        outputs[held_out] = found
    return outputs
