"""Inputs of a head's last layer: the features that its logits are a linear function of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.data.batching import IGNORE_INDEX
from lora_tune.evaluation.model_evaluation import run_batches
from lora_tune.evaluation.pooled_features import pool
from lora_tune.models.layers import last_linear

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

MAX_DIFFERENCE = 1e-4  # of a logit computed from pooled inputs, or of the largest logit above 1


@dataclass(frozen=True)
class HeadInputs:
    """What a head's last layer gets for rows, or for the words of rows."""

    features: np.ndarray  # (items, width), fp32
    rows: np.ndarray  # (items,), the row of each


def extract_head_inputs(
    model: "PreTrainedModel",
    columns: Mapping[str, Sequence[Any]],
    *,
    head: Sequence[str],
    collate: Callable[..., Any],
    title: str,
) -> HeadInputs | None:
    """Run a model over tokenized rows and record what the last layer of its head gets.

    Where the layer runs on every token and its logits are pooled, so are its inputs.

    Args:
        columns: the model's inputs, each a list with an item for each row; the labels of words
            among them, where words have labels.
        head: the names of the head's modules; see `load_model`.
        collate: pads a batch.
        title: of the progress bar.

    Returns:
        One item for each row, or for each labeled word; None where the logits are not a linear
        function of the layer's inputs.
    """
    layer = last_linear(model, head)
    if layer is None:
        return None
    captured: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, given: captured.append(given[0]))
    features, rows = [], []
    pooling: str | None = None
    try:
        for batch, inputs, labels, outputs in run_batches(
            model, columns, collate=collate, title=title
        ):
            states = captured.pop()  # (rows, width) or (rows, tokens, width)
            logits = outputs.logits.float()
            if logits.ndim == 3:  # a label for each word
                assert labels is not None
                kept = labels != IGNORE_INDEX  # (rows, tokens)
                features.append(states[kept].float().cpu().numpy())
                rows.append(np.repeat(batch, kept.sum(dim=1).cpu().numpy()))
                continue
            if states.ndim == 3:
                pooled = pool(states.float(), inputs["attention_mask"])
                if pooling is None:
                    pooling = _find_pooling(pooled, logits, layer=layer)
                    if pooling is None:
                        return None
                states = pooled[pooling]
            elif not _is_same(layer, states, logits):
                return None
            features.append(states.float().cpu().numpy())
            rows.append(batch)
    finally:
        handle.remove()
    order = np.argsort(np.concatenate(rows), kind="stable")
    return HeadInputs(np.concatenate(features)[order], np.concatenate(rows)[order])


def _find_pooling(
    pooled: "Mapping[str, torch.Tensor]", logits: "torch.Tensor", *, layer: Any
) -> str | None:
    """Find the way of pooling whose result, (rows, width), gives the logits, (rows, classes)."""
    return next((name for name, found in pooled.items() if _is_same(layer, found, logits)), None)


def _is_same(layer: Any, features: "torch.Tensor", logits: "torch.Tensor") -> bool:
    import torch

    with torch.inference_mode():
        found = layer(features.to(layer.weight.dtype)).float()
    allowed = MAX_DIFFERENCE * max(1.0, float(logits.abs().max()))
    return found.shape == logits.shape and float((found - logits).abs().max()) <= allowed
