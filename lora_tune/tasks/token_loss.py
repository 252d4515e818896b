"""Cross-entropy over tokens, for the tasks that label each of them."""

from typing import TYPE_CHECKING, Any

from lora_tune.data.batching import IGNORE_INDEX

if TYPE_CHECKING:
    import torch


def token_loss(
    logits: "torch.Tensor", labels: "torch.Tensor", *, items: Any, smoothing: float
) -> "torch.Tensor":
    """Compute the cross-entropy of logits (rows, tokens, choices), divided by `items`.

    Args:
        labels: (rows, tokens); IGNORE_INDEX where a token does not count.
        items: labels of the whole step that count, over all its micro-batches.
        smoothing: label smoothing, from 0 to 1.
    """
    from torch.nn.functional import cross_entropy

    total = cross_entropy(
        logits.float().flatten(0, 1),
        labels.flatten(),
        reduction="sum",
        ignore_index=IGNORE_INDEX,
        label_smoothing=smoothing,
    )
    return total / items
