"""What a frozen model makes of rows, before any head: its last hidden states, pooled."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.evaluation import in_order, run_rows

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def read_features(
    model: "PreTrainedModel",
    columns: Mapping[str, Sequence[Any]],
    *,
    collate: Callable[..., Any],
    title: str,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Run a model over encoded rows once, for its logits and its pooled last hidden states.

    Returns:
        Logits in fp32, (rows, classes); and way of pooling -> features in fp32, (rows, width).
    """
    import torch

    states: list[torch.Tensor] = []
    handle = model.base_model.register_forward_hook(lambda _, __, out: states.append(out[0]))
    batches, logits = [], []
    pooled: dict[str, list[np.ndarray]] = {}
    try:
        for batch, inputs, _, outputs in run_rows(model, columns, collate=collate, title=title):
            batches.append(batch)
            logits.append(outputs.logits.float().cpu().numpy())
            for name, features in _pool(states.pop().float(), inputs["attention_mask"]).items():
                pooled.setdefault(name, []).append(features.cpu().numpy())
    finally:
        handle.remove()
    features = {name: in_order(batches, values) for name, values in pooled.items()}
    return in_order(batches, logits), features


def _pool(states: "torch.Tensor", mask: "torch.Tensor") -> dict[str, "torch.Tensor"]:
    """Pool states (rows, tokens, width) by a mask (rows, tokens): mean, first and last token."""
    import torch

    kept = mask.unsqueeze(-1).to(states.dtype)
    places = torch.arange(mask.shape[1], device=mask.device)
    rows = torch.arange(len(mask), device=mask.device)
    first = torch.where(mask.bool(), places, mask.shape[1]).amin(dim=1)
    last = torch.where(mask.bool(), places, -1).amax(dim=1)
    return {
        "mean": (states * kept).sum(dim=1) / kept.sum(dim=1),
        "first token": states[rows, first],
        "last token": states[rows, last],
    }
