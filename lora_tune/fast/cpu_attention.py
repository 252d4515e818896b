"""Computes attention on a CPU, in bfloat16 or with dropout, by matrix products of a few heads.

In bfloat16 and up to some number of tokens, the backward pass of torch 2.13's flash attention is
slower than these products, and it has no dropout (benchmarks/results/parts.md). The scores of a few
heads stay in the processor's cache from one product to the next. The backward pass needs only the
probabilities, (rows, heads, tokens, tokens); a negative sign marks those that are dropped.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from lora_tune.fast.cpu_dropout import draw_keep_mask
from lora_tune.fast.patches import patched_attention

SDPA = "sdpa"  # the name of torch's attention in transformers
MAX_SCORES = 1 << 22  # computed at once; 8 MB in bfloat16
# Above, torch's attention is faster: it skips scores that a causal mask hides and keeps none.
MAX_TOKENS = 1024


class ProductAttention(torch.autograd.Function):
    """Attention (m softmax(s q k^T)) v with a dropout mask m; the gradients by the chain rule."""

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
        """Compute attention, (rows, heads, tokens, value width).

        Args:
            context: keeps what the backward pass needs.
            q: (rows, heads, tokens, width).
            k: of the same shape.
            v: (rows, heads, tokens, value width).
            mask: broadcasts to (rows, heads, tokens, tokens): True where a token is attended to, or
                values to add to the scores; None if all tokens are attended to.
            scale: s.
            dropout: the probability that m is 0, from 0 to below 1.
        """
        rows, heads, tokens, _ = q.shape
        with torch.autocast(q.device.type, enabled=False):
            q, k, v = (q * scale).contiguous(), k.contiguous(), v.contiguous()
            probabilities = q.new_empty(rows, heads, tokens, tokens)
            attended = torch.empty_like(v)
            if mask is not None:
                mask = ~mask if mask.dtype == torch.bool else mask
                mask = mask.expand(rows, heads, -1, -1)
            buffer = _score_buffer(q)
            for part in _parts(rows, heads=heads, tokens=tokens):
                some = _flat(probabilities[part])
                scores = torch.bmm(_flat(q[part]), _flat(k[part]).mT, out=buffer[: len(some)])
                if mask is not None:
                    _add_mask(scores.view_as(probabilities[part]), mask[part])
                torch.softmax(scores, dim=-1, out=some)
                if dropout:
                    torch.copysign(some, draw_keep_mask(some, dropout).sub_(0.5), out=some)
                kept = torch.relu(some) if dropout else some
                torch.bmm(kept, _flat(v[part]), out=_flat(attended[part]))
            context.save_for_backward(q, k, v, probabilities)
            context.scale, context.dropout = scale, dropout
            return attended.div_(1 - dropout) if dropout else attended

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        """Compute the gradients of q, k and v from that of the result."""
        q, k, v, probabilities = context.saved_tensors
        dropout = context.dropout
        of_q, of_k, of_v = map(torch.empty_like, (q, k, v))
        with torch.autocast(q.device.type, enabled=False):
            gradient = (gradients[0] / (1 - dropout) if dropout else gradients[0]).contiguous()
            buffer, second_buffer = _score_buffer(q), _score_buffer(q)
            rows, heads, tokens, _ = q.shape
            for part in _parts(rows, heads=heads, tokens=tokens):
                some, of_attended = _flat(probabilities[part]), _flat(gradient[part])
                kept = torch.relu(some) if dropout else some
                torch.bmm(kept.mT, of_attended, out=_flat(of_v[part]))
                of_some = torch.bmm(of_attended, _flat(v[part]).mT, out=buffer[: len(some)])
                if dropout:
                    of_some = torch.ops.aten.threshold_backward(of_some, some, 0)
                    some = some.abs()
                of_scores = torch.ops.aten._softmax_backward_data.out(
                    of_some, some, -1, some.dtype, grad_input=second_buffer[: len(some)]
                )
                torch.bmm(of_scores, _flat(k[part]), out=_flat(of_q[part]))
                torch.bmm(of_scores.mT, _flat(q[part]), out=_flat(of_k[part]))
            return of_q.mul_(context.scale), of_k, of_v, None, None, None


def _parts(rows: int, *, heads: int, tokens: int) -> Iterator[tuple[slice, slice]]:
    """Split rows and heads into parts of few scores: whole rows, or some heads of one row."""
    size = _max_heads(tokens)
    rows_in_part, heads_in_part = max(1, size // heads), min(size, heads)
    for row in range(0, rows, rows_in_part):
        for head in range(0, heads, heads_in_part):
            yield slice(row, row + rows_in_part), slice(head, head + heads_in_part)


def _max_heads(tokens: int) -> int:
    return max(1, MAX_SCORES // tokens**2)


def _score_buffer(q: Tensor) -> Tensor:
    """Allocate the memory for a part's scores, (heads, tokens, tokens), that all parts reuse."""
    rows, heads, tokens, _ = q.shape
    return q.new_empty(min(rows * heads, _max_heads(tokens)), tokens, tokens)


def _flat(part: Tensor) -> Tensor:
    return part.flatten(0, 1)  # a view: heads of one row, or whole rows


def _add_mask(scores: Tensor, mask: Tensor) -> None:
    if mask.dtype == torch.bool:  # True where a token is hidden
        scores.masked_fill_(mask, torch.finfo(scores.dtype).min)
    else:
        scores += mask


@contextmanager
def product_attention() -> Iterator[None]:
    """Compute attention in this way, where it is faster, for models that use torch's attention."""
    original = AttentionInterface()[SDPA]

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
            # As in torch's attention: rotary positions make queries and keys float32 again.
            dtype = torch.get_autocast_dtype("cpu")
            query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
        if not _is_faster(query, key, mask=mask, dropout=dropout, **named):
            return original(module, query, key, value, mask, dropout=dropout, **named)
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

    with patched_attention(SDPA, attend):
        yield


def _is_faster(
    query: Tensor,
    key: Tensor,
    *,
    mask: Tensor | None,
    dropout: float,
    position_bias: Tensor | None = None,
    softcap: float | None = None,
    **_: Any,
) -> bool:
    """Whether this is plain attention on a CPU, trained in bfloat16 or with dropout."""
    is_trained = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad)
    is_short_bfloat16 = query.dtype == torch.bfloat16 and query.shape[2] <= MAX_TOKENS
    return (
        query.device.type == "cpu"
        # With dropout, do not depend on gradients: checkpointing repeats the forward pass with
        # gradients and must draw the same mask.
        and (dropout > 0 or (is_trained and is_short_bfloat16))
        and query.shape == key.shape
        and position_bias is None
        and softcap is None
        and not (mask is not None and mask.requires_grad)
    )
