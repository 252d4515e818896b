"""Attention on a CPU in bfloat16, or with dropout, by plain matrix products, a few heads at a time.

torch 2.13's own flash attention goes back more slowly in bfloat16 than these products, up to some
width, and takes no dropout (benchmarks/results/parts.md). A few heads' scores stay in the
processor's cache from one product to the next. What is kept for the way back is the probabilities,
(rows, heads, tokens, tokens); the sign of each tells whether it was dropped out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from lora_tune.fast.cpu_dropout import draw_kept

OWN = "sdpa"  # the name under which models ask for torch's attention
AT_ONCE = 1 << 22  # scores; 8 MB in bfloat16
# Tokens. Above, torch's attention, which skips what a causal mask hides and keeps no probabilities.
WIDEST = 1024


class ProductAttention(torch.autograd.Function):
    """(m softmax(s q k')) v, ' for transposed; the gradients by the chain rule."""

    @staticmethod
    def forward(
        context: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        scale: float,
        dropout: float,
    ) -> Tensor:
        """Compute attention, (rows, heads, tokens, width).

        Args:
            context: keeps what the way back needs.
            q: (rows, heads, tokens, width).
            k: of the same shape.
            v: (rows, heads, tokens, width of its own).
            mask: broadcasts to (rows, heads, tokens, tokens): True where a token is seen, or
                what is added before the softmax; None where all are seen.
            scale: s.
            dropout: the share of the probabilities that m leaves out, from 0 to below 1.
        """
        rows, heads, tokens, _ = q.shape
        with torch.autocast(q.device.type, enabled=False):
            q, k, v = (q * scale).contiguous(), k.contiguous(), v.contiguous()
            shares = q.new_empty(rows, heads, tokens, tokens)
            attended = torch.empty_like(v)
            if mask is not None:
                mask = ~mask if mask.dtype == torch.bool else mask
                mask = mask.expand(rows, heads, -1, -1)
            room = _scratch(q)
            for part in _parts(rows, heads, tokens):
                some = _flat(shares[part])
                scores = torch.bmm(_flat(q[part]), _flat(k[part]).mT, out=room[: len(some)])
                if mask is not None:
                    _add_mask(scores.view_as(shares[part]), mask[part])
                torch.softmax(scores, dim=-1, out=some)
                if dropout:
                    torch.copysign(some, draw_kept(some, dropout).sub_(0.5), out=some)
                left = torch.relu(some) if dropout else some
                torch.bmm(left, _flat(v[part]), out=_flat(attended[part]))
            context.save_for_backward(q, k, v, shares)
            context.scale, context.dropout = scale, dropout
            return attended.div_(1 - dropout) if dropout else attended

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        """Compute the gradients of q, k and v from that of the result."""
        q, k, v, shares = context.saved_tensors
        dropout = context.dropout
        of_q, of_k, of_v = map(torch.empty_like, (q, k, v))
        with torch.autocast(q.device.type, enabled=False):
            gradient = (gradients[0] / (1 - dropout) if dropout else gradients[0]).contiguous()
            room, more = _scratch(q), _scratch(q)
            for part in _parts(*q.shape[:3]):
                some, back = _flat(shares[part]), _flat(gradient[part])
                left = torch.relu(some) if dropout else some
                torch.bmm(left.mT, back, out=_flat(of_v[part]))
                of_shares = torch.bmm(back, _flat(v[part]).mT, out=room[: len(some)])
                if dropout:
                    of_shares = torch.ops.aten.threshold_backward(of_shares, some, 0)
                    some = some.abs()
                of_scores = torch.ops.aten._softmax_backward_data.out(
                    of_shares, some, -1, some.dtype, grad_input=more[: len(some)]
                )
                torch.bmm(of_scores, _flat(k[part]), out=_flat(of_q[part]))
                torch.bmm(of_scores.mT, _flat(q[part]), out=_flat(of_k[part]))
            return of_q.mul_(context.scale), of_k, of_v, None, None, None


def _parts(rows: int, heads: int, tokens: int) -> Iterator[tuple[slice, slice]]:
    """Cut rows and heads so that a part's scores are few: whole rows, or heads of one row."""
    some = _heads_at_once(tokens)
    deep, wide = max(1, some // heads), min(some, heads)
    for row in range(0, rows, deep):
        for head in range(0, heads, wide):
            yield slice(row, row + deep), slice(head, head + wide)


def _heads_at_once(tokens: int) -> int:
    return max(1, AT_ONCE // tokens**2)


def _scratch(q: Tensor) -> Tensor:
    """Make room for a part's scores, (heads, tokens, tokens); the same is used for every part."""
    rows, heads, tokens, _ = q.shape
    return q.new_empty(min(rows * heads, _heads_at_once(tokens)), tokens, tokens)


def _flat(part: Tensor) -> Tensor:
    return part.flatten(0, 1)  # a view: heads of one row, or whole rows


def _add_mask(scores: Tensor, mask: Tensor) -> None:
    if mask.dtype == torch.bool:  # True where a token is hidden
        scores.masked_fill_(mask, torch.finfo(scores.dtype).min)
    else:
        scores += mask


@contextmanager
def product_attention() -> Iterator[None]:
    """Answer models that ask for torch's attention with this one, where it is faster."""
    own = AttentionInterface()[OWN]

    def attend(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Any,
        dropout: float = 0.0,
        **named: Any,
    ) -> tuple[Tensor, None]:
        if query.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # As torch's own does: rotary positions leave queries and keys in another type.
            dtype = torch.get_autocast_dtype("cpu")
            query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
        if not _stands_in(query, key, mask, dropout, **named):
            return own(module, query, key, value, mask, dropout=dropout, **named)
        is_causal = named.get("is_causal")
        if mask is None and (
            getattr(module, "is_causal", True) if is_causal is None else is_causal
        ):
            tokens = query.shape[2]
            mask = torch.ones(tokens, tokens, dtype=torch.bool, device=query.device).tril()
        scale = named.get("scaling")
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        attended = ProductAttention.apply(query, key, value, mask, scale, dropout)
        return attended.transpose(1, 2).contiguous(), None

    AttentionInterface.register(OWN, attend)
    try:
        yield
    finally:
        AttentionInterface.register(OWN, own)


def _stands_in(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    dropout: float,
    *,
    position_bias: Tensor | None = None,
    softcap: float | None = None,
    **_: Any,
) -> bool:
    """Whether this is attention on the CPU in bfloat16 that goes back, or that drops out."""
    is_trained = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad)
    is_narrow = query.dtype == torch.bfloat16 and query.shape[2] <= WIDEST
    return (
        query.device.type == "cpu"
        # What checkpointing runs twice is to draw alike: dropout does not hang on gradients.
        and (dropout > 0 or (is_trained and is_narrow))
        and query.shape == key.shape
        and position_bias is None
        and softcap is None
        and not (mask is not None and mask.requires_grad)
    )
