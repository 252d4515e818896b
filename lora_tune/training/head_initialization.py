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
from lora_tune.evaluation.model_selection import cross_validate
from lora_tune.models.layers import last_linear
from lora_tune.run_context import RunContext
from lora_tune.tasks import Task
from lora_tune.training.precision import is_sharded
from lora_tune.training.target_scaling import TargetScaling, fit_scaling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# By a task's output kind, scikit-learn's C for standardized features. It is below what predicts
# best, so that from few rows the loss leaves LoRA something to learn.
# benchmarks/quality/defaults.py compares it with others.
STRENGTHS = {"class": 1e-4, "labels": 2e-4, "value": 1e-4, "tags": 3e-5}
PER_CLASS = ("class", "tags")  # whose C is times the number of classes
# Training rows below which C grows as they become fewer, since it multiplies a sum over rows.
FEW_ROWS = 270
THRESHOLD_STRENGTH = 1e-2  # of the probe whose cross-validation chooses a threshold
MAX_ROWS = 2_000  # that the probe is fitted to; more change it little
MAX_WORDS = 20_000  # where words have labels
# By a task's output kind: that of the linear model.
MODEL_KINDS = {"class": "class", "labels": "labels", "value": "value", "tags": "class"}


@dataclass(frozen=True)
class HeadStart:
    """What the start of a head determines for the training and the evaluation after it."""

    task: Task  # with a threshold, where one was chosen by cross-validating the linear probe
    scaling: TargetScaling | None = None  # of the numbers that a regression predicts


@dataclass(frozen=True)
class ProbeRows:
    """The training rows of a linear probe."""

    features: np.ndarray  # (items, width), inputs of the head's last layer
    labels: np.ndarray  # (items, ...)


@dataclass(frozen=True)
class Probe:
    """A linear probe as the weights of a head's last layer."""

    weight: np.ndarray  # (outputs, width)
    bias: np.ndarray | None  # (outputs,); None where the layer has none


def prepare_head(
    model: "PreTrainedModel", context: RunContext, *, head: Sequence[str], is_untrained: bool
) -> HeadStart:
    """Initialize an untrained head as the recipe says, and standardize a regression's numbers.

    A head that the base model has already stays as it is, and so does one whose weights are
    sharded, which cannot be set in place.

    Args:
        head: the names of the head's modules; see `load_model`.
        is_untrained: whether the base model lacks the head.
    """
    import torch

    task, data = context.task, context.data
    layer = last_linear(model, head)
    if not is_untrained or layer is None or is_sharded(context.recipe.training):
        return HeadStart(task)
    has_bias = layer.bias is not None
    scaling = None
    if task.output_kind == "value":
        scaling = fit_scaling(data.train.rows.labels, has_bias=has_bias)
    if context.recipe.lora.init_head_weights != "linear_probe":
        return HeadStart(task, scaling)
    rows = _extract_rows(model, context, head=head, scaling=scaling)
    if rows is None:
        return HeadStart(task, scaling)
    probe = fit_probe(rows, data.labels, kind=task.output_kind, has_bias=has_bias)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(probe.weight))
        if probe.bias is not None:
            layer.bias.copy_(torch.from_numpy(probe.bias))
    if (
        task.has_open_threshold
        and not data.can_select
        and len(rows.labels) == len(data.train.rows.labels)
    ):
        mean, scale = _fit_scale(rows.features)
        standardized = (rows.features - mean) / scale
        held_out = cross_validate(
            standardized, rows.labels, data.labels, strength=THRESHOLD_STRENGTH, task=task
        )
        task = task.tune(list(held_out[:, None]), data.train)
    return HeadStart(task, scaling)


def fit_probe(rows: ProbeRows, names: Sequence[str], *, kind: str, has_bias: bool = True) -> Probe:
    """Fit a linear probe.

    Args:
        names: of the labels.
        kind: of the task's outputs, one of `MODEL_KINDS`.
        has_bias: whether the layer has a bias.
    """
    mean, scale = _fit_scale(rows.features)
    if not has_bias:
        mean = np.zeros_like(mean)
    standardized = (rows.features - mean) / scale
    strength = STRENGTHS[kind] * (len(names) if kind in PER_CLASS else 1)
    if kind in ("class", "labels"):
        strength *= max(1, FEW_ROWS / len(rows.labels))
    linear = LINEAR_MODELS[MODEL_KINDS[kind]]
    model = linear.fit(standardized, rows.labels, names, strength, intercept=has_bias)
    weight, bias = _as_layer(model, len(rows.labels))
    weight = weight / scale
    return Probe(weight, bias - weight @ mean if has_bias else None)


def _extract_rows(
    model: "PreTrainedModel",
    context: RunContext,
    *,
    head: Sequence[str],
    scaling: TargetScaling | None,
) -> ProbeRows | None:
    """Run the model over training rows, or some of many.

    Returns:
        What the probe is fitted to; None where the logits are no linear function of the last
        layer's inputs.
    """
    if context.task.output_kind not in MODEL_KINDS:
        return None
    train = context.data.train
    random = np.random.default_rng(0)
    chosen = np.sort(random.permutation(len(train.encoded))[:MAX_ROWS])
    inputs = extract_head_inputs(
        model,
        train.encoded.select(chosen)[:],
        head=head,
        collate=context.collate(model),
        title="linear probe",
    )
    if inputs is None:
        return None
    labels = train.rows.labels[chosen]
    if context.task.output_kind == "tags":
        labels = _labels_of_words(labels, inputs.rows)
        return ProbeRows(inputs.features[:MAX_WORDS], labels[:MAX_WORDS])
    return ProbeRows(inputs.features, labels if scaling is None else scaling.standardize(labels))


def _fit_scale(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean and the standard deviation of features (items, width), (width,) both."""
    scale = features.std(axis=0, dtype=float)
    scale[scale == 0] = 1.0
    return features.mean(axis=0, dtype=float), scale


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


def _labels_of_words(labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Take the labels of the words that were not truncated, (words,).

    Args:
        labels: (rows,), of the words of each.
        rows: (words,), sorted: the row of each word.
    """
    counts: Mapping[Any, Any] = dict(zip(*np.unique(rows, return_counts=True), strict=True))
    return np.concatenate([own[: counts.get(row, 0)] for row, own in enumerate(labels)])
