"""A classifier's last layer, run for the first token alone where the head reads no other.

BERT and its kin answer from their first token. What the other tokens become in the last layer is
read by nothing; there they are still keys and values to the first, and no more.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import TrainingArguments

from lora_tune.data import Data
from lora_tune.fast.proof import collate_rows, is_near, make_proof_rows, runs_layers_plainly
from lora_tune.model import find_layers

# Of the attention of BERT's kin, and of DistilBERT's.
QUERY_KEY_VALUE = (("query", "key", "value"), ("q_lin", "k_lin", "v_lin"))
OUTPUT = "out_lin"  # that DistilBERT's attention holds itself


def find_top_layer(
    model: Any, data: Data, arguments: TrainingArguments, *, collate: Callable[..., Any]
) -> nn.Module | None:
    """Find the last layer, and prove on two rows that its first token is all that is read.

    Returns:
        None where it is of no kind that is known here, or does not prove so.
    """
    layers = find_layers(model)
    if model.config.is_encoder_decoder or not len(layers) or not runs_layers_plainly(arguments):
        return None
    layer: nn.Module = layers[-1]
    found = _find_attention(layer)
    if len(found) != 1 or any("forward" in vars(module) for module in (layer, found[0][0])):
        return None
    rows = collate_rows(make_proof_rows(data), collate, model)
    was_training = model.training
    try:
        with torch.no_grad():
            own = model.eval()(**rows).logits
            with first_token(layer):
                answers = model(**rows).logits
    except (RuntimeError, ValueError, TypeError, IndexError):  # of what only looks like BERT
        return None
    finally:
        model.train(was_training)
    return layer if own.ndim == 2 and is_near(answers, own, model.dtype) else None


@contextmanager
def first_token(layer: Any) -> Iterator[None]:
    """Run a layer for the first token alone; for the others it returns zeros.

    Args:
        layer: that find_top_layer found; as it is where it is None, or something stands in for it.
    """
    if layer is None or "forward" in vars(layer):
        yield
        return
    ((attention, names),) = _find_attention(layer)
    query, key, value = names
    own = layer.forward
    # While the layer runs: of all tokens and of the first, (rows, tokens, width).
    states: list[Tensor] = []

    def forward(
        hidden_states: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any
    ) -> Tensor:
        mask = None if attention_mask is None else attention_mask[:, :, :1]
        states[:] = hidden_states, hidden_states[:, :1]
        try:
            first = own(states[1], mask)
        finally:
            states.clear()
        return pad(first, (0, 0, 0, hidden_states.shape[1] - 1))

    def attend(first: Tensor, attention_mask: Tensor | None = None, **_: Any) -> Any:
        if first is not states[1]:
            raise ValueError("attention reads other states than its layer")

        def heads(name: str, tokens: Tensor) -> Tensor:
            made = getattr(attention, name)(tokens)
            return made.unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2)

        attended = scaled_dot_product_attention(
            heads(query, first),
            heads(key, states[0]),
            heads(value, states[0]),
            attn_mask=attention_mask,
            dropout_p=attention.dropout.p if attention.training else 0.0,
            scale=attention.scaling,
        )
        attended = attended.transpose(1, 2).flatten(2)
        if hasattr(attention, OUTPUT):
            attended = getattr(attention, OUTPUT)(attended)
        return attended, None

    layer.forward, attention.forward = forward, attend
    try:
        yield
    finally:
        del layer.forward, attention.forward


def _find_attention(layer: nn.Module) -> list[tuple[Any, tuple[str, str, str]]]:
    return [
        (module, names)
        for module in layer.modules()
        for names in QUERY_KEY_VALUE
        if all(hasattr(module, name) for name in (*names, "attention_head_size", "scaling"))
        and isinstance(getattr(module, "dropout", None), nn.Dropout)
        and not getattr(module, "is_causal", False)
    ]
