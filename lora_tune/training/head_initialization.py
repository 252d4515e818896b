"""Initializes an untrained head with a linear probe: linear probing, then fine-tuning (LP-FT).

Source: Kumar et al. 2022, arXiv 2202.10054: a random head distorts good features in the first
steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.evaluation.fitted_baselines import LinearModel
from lora_tune.evaluation.head_inputs import extract_head_inputs
from lora_tune.evaluation.linear_models import LINEAR_MODELS
from lora_tune.evaluation.model_selection import fold_rows
from lora_tune.metrics.classification import cross_entropy
from lora_tune.models.layers import last_linear
from lora_tune.run_context import RunContext
from lora_tune.tasks import Task
from lora_tune.training.target_scaling import TargetScaling, fit_scaling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # scikit-learn's C
MAX_ROWS = 2_000  # that the probe is fitted to; more change it little
MAX_WORDS = 6_000  # where words have labels
CROSS_VALIDATED = 500  # items; for more of them, one fold tells enough
# By a task's output kind: that of the linear model.
MODEL_KINDS = {"class": "class", "labels": "labels", "value": "value", "tags": "class"}


@dataclass(frozen=True)
class HeadStart:
    """What the start of a head determines for the training and the evaluation after it."""

    task: Task  # with a threshold, where one was chosen by cross-validating the linear probe
    scaling: TargetScaling | None = None  # of the numbers that a regression predicts


def prepare_head(
    model: "PreTrainedModel", context: RunContext, *, head: Sequence[str], is_untrained: bool
) -> HeadStart:
    """Initialize an untrained head as the recipe says, and standardize a regression's numbers.

    A head that the base model has already stays as it is.

    Args:
        head: the names of the head's modules; see `load_model`.
        is_untrained: whether the base model lacks the head.
    """
    task, data = context.task, context.data
    layer = last_linear(model, head)
    if not is_untrained or layer is None:
        return HeadStart(task)
    scaling = None
    if task.output_kind == "value":
        scaling = fit_scaling(data.train.rows.labels, has_bias=layer.bias is not None)
    if context.recipe.lora.init_head_weights == "linear_probe":
        probe = initialize_head(model, context, head=head, scaling=scaling)
        if probe is not None and probe.held_out is not None and not data.can_select:
            task = task.tune(list(probe.held_out[:, None]), data.train)
    return HeadStart(task, scaling)


@dataclass(frozen=True)
class Probe:
    """A linear probe as the weights of a head's last layer."""

    weight: np.ndarray  # (outputs, width)
    bias: np.ndarray | None  # (outputs,); None where the layer has none
    strength: float  # scikit-learn's C
    # (items, outputs), of each item by a probe that was fitted to the others; None where these were
    # not computed for all.
    held_out: np.ndarray | None


def initialize_head(
    model: "PreTrainedModel",
    context: RunContext,
    *,
    head: Sequence[str],
    scaling: TargetScaling | None,
) -> Probe | None:
    """Fit a linear probe to the training rows and write it into the head's last layer.

    Args:
        model: the base model, with an untrained head.
        head: the names of the head's modules; see `load_model`.
        scaling: of the numbers that a regression predicts.

    Returns:
        What was written; None where the head is no linear function of the model's states, so that
        it stays random.
    """
    import torch

    layer, kind = last_linear(model, head), MODEL_KINDS.get(context.task.output_kind)
    if layer is None or kind is None:
        return None
    labels = context.data.train.rows.labels
    random = np.random.default_rng(0)
    chosen = np.sort(random.permutation(len(labels))[:MAX_ROWS])
    encoded = context.data.train.encoded.select(chosen)[:]
    inputs = extract_head_inputs(
        model, encoded, head=head, collate=context.collate(model), title="linear probe"
    )
    if inputs is None:
        return None
    features, groups = inputs.features, None
    if context.task.output_kind == "tags":
        own = _labels_of_words(labels[chosen], inputs.rows)
        kept = inputs.rows < _rows_within(inputs.rows, MAX_WORDS)
        features, own, groups = features[kept], own[kept], inputs.rows[kept]
    else:
        own = labels[chosen]
    if scaling is not None:
        own = scaling.standardize(own)
    probe = fit_probe(
        features,
        own,
        context.data.labels,
        kind=kind,
        groups=groups,
        has_bias=layer.bias is not None,
    )
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(probe.weight))
        if probe.bias is not None:
            layer.bias.copy_(torch.from_numpy(probe.bias))
    return probe


def fit_probe(
    features: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    *,
    kind: str,
    groups: np.ndarray | None = None,
    has_bias: bool = True,
) -> Probe:
    """Fit a linear probe, with the regularization of the lowest loss on held-out rows.

    Args:
        features: (items, width).
        labels: (items, ...).
        names: of the labels.
        kind: of the linear model; see `LINEAR_MODELS`.
        groups: (items,), the row of each item, where rows have several.
        has_bias: whether the layer has a bias.
    """
    mean = features.mean(axis=0, dtype=float) if has_bias else np.zeros(features.shape[1])
    scale = features.std(axis=0, dtype=float)
    scale[scale == 0] = 1.0
    standardized = (features - mean) / scale
    models = LINEAR_MODELS[kind]
    folds = list(fold_rows(labels, groups=groups))
    folds = folds if len(labels) <= CROSS_VALIDATED else folds[:1]

    def fit(rows: np.ndarray, strength: float) -> LinearModel:
        return models.fit(standardized[rows], labels[rows], names, strength, intercept=has_bias)

    losses: dict[float, float] = {}
    outputs: dict[float, list[np.ndarray]] = {}
    for strength in STRENGTHS:
        outputs[strength] = [
            fit(~held_out, strength).predict(standardized[held_out]) for held_out in folds
        ]
        losses[strength] = sum(
            len(found) * _mean_loss(found, labels[held_out])
            for held_out, found in zip(folds, outputs[strength], strict=True)
        )
        if losses[strength] > min(losses.values()):
            break  # a weaker regularization is no better
    strength = min(losses, key=lambda given: losses[given])
    weight, bias = _as_layer(fit(np.ones(len(labels), dtype=bool), strength), len(labels))
    weight = weight / scale
    all_outputs = np.concatenate(outputs[strength])
    held_out_outputs = None
    if len(all_outputs) == len(labels):
        held_out_outputs = np.empty_like(all_outputs)
        held_out_outputs[np.concatenate([np.flatnonzero(fold) for fold in folds])] = all_outputs
    return Probe(weight, bias - weight @ mean if has_bias else None, strength, held_out_outputs)


def _as_layer(model: LinearModel, items: int) -> tuple[np.ndarray, np.ndarray]:
    """Turn a linear model into a weight (outputs, width) and a bias (outputs,) of logits."""
    weights, bias = model.weights, model.bias
    if model.classes is None:
        return weights, bias
    if len(model.classes) == 2:
        weights, bias = np.vstack([-weights, weights]) / 2, np.hstack([-bias, bias]) / 2
    weight = np.zeros((model.class_count, weights.shape[1]))
    # A class that no row has gets less than the rarest of the others.
    all_bias = np.full(model.class_count, bias.min() - np.log(items))
    weight[model.classes], all_bias[model.classes] = weights, bias
    return weight, all_bias


def _mean_loss(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Compute the mean loss of outputs (items, numbers): cross-entropy, or squared error."""
    if labels.ndim == 2:
        return float((np.logaddexp(0, outputs) - labels * outputs).mean())
    if np.issubdtype(labels.dtype, np.integer):
        return float(cross_entropy(outputs, labels))
    return float(np.square(outputs[:, 0] - labels).mean())


def _labels_of_words(labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Take the labels of the words that were not truncated, (words,).

    Args:
        labels: (rows,), of the words of each.
        rows: (words,), sorted: the row of each word.
    """
    counts: Mapping[Any, Any] = dict(zip(*np.unique(rows, return_counts=True), strict=True))
    return np.concatenate([own[: counts.get(row, 0)] for row, own in enumerate(labels)])


def _rows_within(rows: np.ndarray, limit: int) -> int:
    """Find how many rows, from the first on, have at most `limit` words together; at least one."""
    return int(rows[limit]) or 1 if len(rows) > limit else int(rows[-1]) + 1
