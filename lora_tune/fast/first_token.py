"""Runs a classifier's last layer for the first token alone, if the head reads no other token.

BERT-like models classify by the state of their first token. In the last layer, the other tokens
only matter as keys and values for the first one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import TrainingArguments

from lora_tune.data.splits import Data
from lora_tune.fast.equivalence import collate_rows, is_close, make_proof_rows, runs_layers_once
from lora_tune.fast.patches import is_patched, patched_forward
from lora_tune.models.layers import find_layers
from lora_tune.tasks import Task

# Names of the projections in the attention of BERT-like models, and of DistilBERT.
QUERY_KEY_VALUE = (("query", "key", "value"), ("q_lin", "k_lin", "v_lin"))
OUTPUT = "out_lin"  # the output projection, which in DistilBERT is a part of the attention


def find_top_layer(
    model: Any,
    data: Data,
    *,
    arguments: TrainingArguments,
    task: Task,
    collate: Callable[..., Any],
) -> nn.Module | None:
    """Find the last layer, and check on two rows that the head reads only its first token.

    Returns:
        The layer; None if its attention is of another kind, or the head reads other tokens.
    """
    layers = find_layers(model)
    reads_all_tokens = model.config.is_encoder_decoder or task.pooling == "mean"
    if reads_all_tokens or not len(layers) or not runs_layers_once(arguments):
        return None
    layer: nn.Module = layers[-1]
    found = _find_attention(layer)
    if len(found) != 1 or any(map(is_patched, (layer, found[0][0]))):
        return None
    inputs = collate_rows(make_proof_rows(data), collate, model=model)
    was_training = model.training
    try:
        with torch.no_grad():
            expected = task.logits(model.eval()(**inputs))
            with first_token(layer):
                logits = task.logits(model(**inputs))
    except (RuntimeError, ValueError, TypeError, IndexError):  # another model with BERT's names
        return None
    finally:
        model.train(was_training)
    is_same = expected.ndim == 2 and is_close(logits, expected, dtype=model.dtype)
    return layer if is_same else None


@contextmanager
def first_token(layer: Any) -> Iterator[None]:
    """Run a layer for the first token alone and return zeros for the others.

    Args:
        layer: from `find_top_layer`; if it is None or patched already, nothing changes.
    """
    if layer is None or is_patched(layer):
        yield
        return
    ((attention, names),) = _find_attention(layer)
    query, key, value = names
    original = layer.forward
    # While the layer runs: the states of all tokens and of the first, (rows, tokens, width).
    states: list[Tensor] = []

    def forward(
        hidden_states: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any
    ) -> Tensor:
        mask = None if attention_mask is None else attention_mask[:, :, :1]
        states[:] = hidden_states, hidden_states[:, :1]
        try:
            first = original(states[1], mask)
        finally:
            states.clear()
        return pad(first, (0, 0, 0, hidden_states.shape[1] - 1))

    def attend(first: Tensor, attention_mask: Tensor | None = None, **_: Any) -> Any:
        if first is not states[1]:
            raise ValueError("the attention's input is not that of its layer")

        def project(name: str, tokens: Tensor) -> Tensor:
            projected = getattr(attention, name)(tokens)
            return projected.unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2)

        attended = scaled_dot_product_attention(
            project(query, first),
            project(key, states[0]),
            project(value, states[0]),
            attn_mask=attention_mask,
            dropout_p=attention.dropout.p if attention.training else 0.0,
            scale=attention.scaling,
        )
        attended = attended.transpose(1, 2).flatten(2)
        if hasattr(attention, OUTPUT):
            attended = getattr(attention, OUTPUT)(attended)
        return attended, None

    with patched_forward(layer, forward), patched_forward(attention, attend):
        yield


def _find_attention(layer: nn.Module) -> list[tuple[Any, tuple[str, str, str]]]:
    """Find the self-attention modules of a layer, with the names of their projections."""
    return [
        (module, names)
        for module in layer.modules()
        for names in QUERY_KEY_VALUE
        if all(hasattr(module, name) for name in (*names, "attention_head_size", "scaling"))
        and isinstance(getattr(module, "dropout", None), nn.Dropout)
        and not getattr(module, "is_causal", False)
    ]
