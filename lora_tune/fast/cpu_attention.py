"""Attention in bfloat16 on a CPU, its way back by plain matrix products.

torch 2.13's own flash attention goes forward fast there, but back more slowly than these products;
`make bench` measures whole steps. What is kept for the way back is the probabilities, (rows, heads,
tokens, tokens) in bfloat16.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

OWN = "sdpa"  # the name under which models ask for torch's attention


class ProductAttention(torch.autograd.Function):
    """softmax(s q k') v, ' for transposed; the gradients by the chain rule."""

    @staticmethod
    def forward(
        context: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
    ) -> Tensor:
        """Compute attention, (rows, heads, tokens, width).

        Args:
            context: keeps what the way back needs.
            q: (rows, heads, tokens, width).
            k: of the same shape.
            v: of the same shape.
            mask: broadcasts to (rows, heads, tokens, tokens): True where a token is seen, or
                what is added before the softmax; None where all are seen.
            scale: s.
        """
        with torch.autocast(q.device.type, enabled=False):
            q = q * scale
            scores = q @ k.transpose(-1, -2)
            if mask is not None and mask.dtype == torch.bool:
                scores.masked_fill_(~mask, torch.finfo(scores.dtype).min)
            elif mask is not None:
                scores += mask
            shares = scores.softmax(dim=-1)
            context.save_for_backward(q, k, v, shares)
            context.scale = scale
            return shares @ v

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        """Compute the gradients of q, k and v from that of the result."""
        q, k, v, shares = context.saved_tensors
        (gradient,) = gradients
        with torch.autocast(q.device.type, enabled=False):
            of_v = shares.transpose(-1, -2) @ gradient
            of_shares = gradient @ v.transpose(-1, -2)
            of_scores = torch.ops.aten._softmax_backward_data(of_shares, shares, -1, shares.dtype)
            of_q = (of_scores @ k).mul_(context.scale)
            return of_q, of_scores.transpose(-1, -2) @ q, of_v, None, None


@contextmanager
def product_attention() -> Iterator[None]:
    """Answer models that ask for torch's attention with this one, where it is faster."""
    own = AttentionInterface()[OWN]

    def attend(
        module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **named: Any
    ) -> tuple[Tensor, None]:
        if not _is_slow(query, key, **named):
            return own(module, query, key, value, mask, **named)
        is_causal = named.get("is_causal")
        if mask is None and (module.is_causal if is_causal is None else is_causal):
            tokens = query.shape[2]
            mask = torch.ones(tokens, tokens, dtype=torch.bool, device=query.device).tril()
        scale = named.get("scaling")
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        attended = ProductAttention.apply(query, key, value, mask, scale)
        return attended.transpose(1, 2).contiguous(), None

    AttentionInterface.register(OWN, attend)
    try:
        yield
    finally:
        AttentionInterface.register(OWN, own)


def _is_slow(
    query: Tensor,
    key: Tensor,
    *,
    dropout: float = 0.0,
    position_bias: Tensor | None = None,
    **_: Any,
) -> bool:
    """Whether torch's attention will have to go back in bfloat16 on the CPU."""
    return (
        query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and torch.is_grad_enabled()
        and (query.requires_grad or key.requires_grad)
        and query.shape == key.shape
        and not dropout
        and position_bias is None
    )
