"""Features of rows: the last hidden states of a frozen model, pooled."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.evaluation.model_evaluation import restore_order, run_batches
from lora_tune.models.pooling import mean_of_tokens

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def extract_features(
    model: "PreTrainedModel",
    columns: Mapping[str, Sequence[Any]],
    *,
    collate: Callable[..., Any],
    title: str,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Run a model over tokenized rows once, for its logits and its pooled last hidden states.

    Args:
        model: the base model, with a head.
        columns: the model's inputs, each a list with an item for each row.
        collate: pads a batch.
        title: of the progress bar.

    Returns:
        Logits in fp32, (rows, classes); and way of pooling -> features in fp32, (rows, width).
    """
    import torch

    states: list[torch.Tensor] = []
    handle = model.base_model.register_forward_hook(lambda _, __, out: states.append(out[0]))
    batches, logits = [], []
    pooled: dict[str, list[np.ndarray]] = {}
    try:
        for batch, inputs, _, outputs in run_batches(model, columns, collate=collate, title=title):
            batches.append(batch)
            logits.append(outputs.logits.float().cpu().numpy())
            for name, features in pool(states.pop().float(), inputs["attention_mask"]).items():
                pooled.setdefault(name, []).append(features.cpu().numpy())
    finally:
        handle.remove()
    features = {name: restore_order(batches, values) for name, values in pooled.items()}
    return restore_order(batches, logits), features


def pool(states: "torch.Tensor", mask: "torch.Tensor") -> dict[str, "torch.Tensor"]:
    """Pool states by their mean, their first and their last token.

    Args:
        states: (rows, tokens, width).
        mask: (rows, tokens), 0 for padding.

    Returns:
        Way of pooling -> (rows, width).
    """
    import torch

    positions = torch.arange(mask.shape[1], device=mask.device)
    rows = torch.arange(len(mask), device=mask.device)
    first = torch.where(mask.bool(), positions, mask.shape[1]).amin(dim=1)  # (rows,)
    last = torch.where(mask.bool(), positions, -1).amax(dim=1)  # (rows,)
    return {
        "mean": mean_of_tokens(states, mask),
        "first token": states[rows, first],
        "last token": states[rows, last],
    }
