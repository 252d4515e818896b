"""What parts of lora_tune/fast gain, each compared with what it replaces: `make parts DATA=FOLDER`.

The two sides of each pair run in turn. Writes results/parts.md.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any
from unittest import mock

import torch
from tabulate import tabulate
from torch.nn.functional import cross_entropy, linear, scaled_dot_product_attention

from benchmarks.fresh_process import run_module
from benchmarks.kept_output import RESULTS, name_processor
from lora_tune.system.environment import describe_environment, keep_freed_memory, quiet_libraries

ROUNDS = 5
# Rows, heads, width of a head: of MiniLM; of BERT-base and GPT-2.
HEADS = ((4, 12, 32), (4, 12, 64))
TOKENS = (128, 512, 1024, 2048)
# Mask, dropout, dtype.
ATTENTION = (
    ("padded", 0.0, torch.bfloat16),
    ("causal", 0.0, torch.bfloat16),
    ("padded", 0.1, torch.bfloat16),
    ("causal", 0.1, torch.float32),
)
DROPOUT_SHAPE = (2048, 1536)  # tokens, width
# Tokens at once, width, vocabulary: of GPT-2, of Llama 3.
OUTPUT_LAYERS = ((2048, 768, 50_257), (1024, 2048, 128_256))
TRUNK_ROWS, TRUNK_EPOCHS, TRAINED_LAYERS = 128, 3, "[4, 5]"


def main(data: str) -> None:
    """Measure, then write the page.

    Args:
        data: a folder with IMDb's train.parquet and test.parquet.
    """
    keep_freed_memory()
    quiet_libraries()
    processor = name_processor(describe_environment("cpu"))
    # First what runs in child processes: their peak memory is at least that of this one.
    sections = [_compare_losses(), _compare_trunks(data), _compare_dropout(), _compare_attention()]
    (RESULTS / "parts.md").write_text(
        "Made by `make parts DATA=FOLDER`: medians of pairs that run in turn, and the median of "
        f"their ratios, {ROUNDS} of each.\n{processor}.\n\n" + "\n\n".join(sections) + "\n"
    )


def _run_in_turn(*sides: Callable[[], float]) -> list[list[float]]:
    """Run each side once to warm up, then all in turn; returns the seconds of each side."""
    for side in sides:
        side()
    rounds = [[side() for side in sides] for _ in range(ROUNDS)]
    return [list(seconds) for seconds in zip(*rounds, strict=True)]


def _median_ratio(plain: list[float], fast: list[float]) -> str:
    return f"{median(a / b for a, b in zip(plain, fast, strict=True)):.2f}"


def _format_table(rows: list[list[Any]], headers: list[str]) -> str:
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _name_dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _compare_dropout() -> str:
    """Compare drawing the mask of dropout with torch's way."""
    from lora_tune.fast.cpu_dropout import draw_keep_mask

    def run(draw: Callable[[Any], Any], dtype: torch.dtype) -> float:
        x = torch.zeros(DROPOUT_SHAPE, dtype=dtype)
        start = time.perf_counter()
        draw(x)
        return time.perf_counter() - start

    rows: list[list[Any]] = []
    for dropout in (0.01, 0.1):
        for dtype in (torch.bfloat16, torch.float32):
            plain, fast = _run_in_turn(
                partial(run, partial(torch.Tensor.bernoulli_, p=1 - dropout), dtype),
                partial(run, partial(draw_keep_mask, dropout=dropout), dtype),
            )
            milliseconds = [f"{1e3 * median(seconds):.2f}" for seconds in (plain, fast)]
            row = [f"{dropout:g}", _name_dtype(dtype), *milliseconds, _median_ratio(plain, fast)]
            rows.append(row)
            print(*row, flush=True)
    tokens, width = DROPOUT_SHAPE
    return (
        f"Drawing the dropout mask of {tokens:,} tokens of width {width:,} "
        "(`lora_tune/fast/cpu_dropout.py`):\n\n"
        + _format_table(rows, ["dropout", "dtype", "torch, ms", "lora_tune, ms", "speed-up"])
    )


def _compare_attention() -> str:
    """Compare attention, forward and backward, with torch's."""
    from lora_tune.fast.cpu_attention import MAX_TOKENS

    rows: list[list[Any]] = []
    for row_count, heads, width in HEADS:
        for tokens in TOKENS:
            for mask, dropout, dtype in ATTENTION:
                attention = Attention((row_count, heads, tokens, width), mask, dropout, dtype)
                plain, fast = _run_in_turn(*attention.sides())
                milliseconds = [f"{1e3 * median(seconds):.1f}" for seconds in (plain, fast)]
                row = [f"{row_count} x {heads} x {width}", tokens, mask, f"{dropout:g}"]
                row += [_name_dtype(dtype), *milliseconds, _median_ratio(plain, fast)]
                rows.append(row)
                print(*row, flush=True)
    headers = ["rows x heads x width", "tokens", "mask", "dropout", "dtype"]
    headers += ["torch, ms", "lora_tune, ms", "speed-up"]
    return (
        "Attention, forward and backward, by torch and by matrix products "
        f"(`lora_tune/fast/cpu_attention.py`, used in bfloat16 up to {MAX_TOKENS} tokens, and with "
        "dropout):\n\n" + _format_table(rows, headers)
    )


@dataclass(frozen=True)
class Attention:
    """One case of attention to time."""

    shape: tuple[int, int, int, int]  # rows, heads, tokens, width of a head
    mask: str  # padded or causal
    dropout: float
    dtype: torch.dtype

    def sides(self) -> list[Callable[[], float]]:
        """Return what runs torch's attention, and lora_tune's, and returns the seconds."""
        from lora_tune.fast.cpu_attention import ProductAttention

        rows, _, tokens, width = self.shape
        generator = torch.Generator().manual_seed(0)
        q, k, v, gradient = (
            torch.randn(self.shape, generator=generator).to(self.dtype) for _ in range(4)
        )
        for tensor in (q, k, v):
            tensor.requires_grad_()
        is_causal, scale = self.mask == "causal", width**-0.5
        causal = torch.ones(tokens, tokens, dtype=torch.bool).tril()
        padded = torch.ones(rows, 1, tokens, tokens, dtype=torch.bool)
        padded[0, ..., -tokens // 8 :] = False
        own: dict[str, Any] = {"is_causal": True} if is_causal else {"attn_mask": padded}
        own |= {"scale": scale, "dropout_p": self.dropout}
        mask = causal if is_causal else padded

        def run(attend: Callable[[], Any]) -> float:
            start = time.perf_counter()
            torch.autograd.grad(attend(), (q, k, v), gradient)
            return time.perf_counter() - start

        return [
            lambda: run(lambda: scaled_dot_product_attention(q, k, v, **own)),
            lambda: run(lambda: ProductAttention.apply(q, k, v, mask, scale, self.dropout)),
        ]


def _compare_losses() -> str:
    """Compare a language model's loss in chunks with that of all logits, in fresh processes."""
    rows: list[list[Any]] = []
    for shape in OUTPUT_LAYERS:
        runs: dict[str, list[dict[str, float]]] = {"whole": [], "chunks": []}
        for _ in range(ROUNDS):
            for side, done in runs.items():
                done.append(run_module("benchmarks.speed.parts", "loss", side, *map(str, shape)))
        seconds, memory = (
            [[run[key] for run in done] for done in runs.values()]
            for key in ("seconds", "memory_bytes")
        )
        row = ["{:,} x {:,} x {:,}".format(*shape), *(f"{median(each):.2f}" for each in seconds)]
        row += [_median_ratio(*seconds), *(f"{median(each) / 1e6:,.0f}" for each in memory)]
        rows.append(row)
        print(*row, flush=True)
    headers = ["tokens x width x vocabulary", "all logits, s", "in chunks, s", "speed-up"]
    headers += ["all logits, MB", "in chunks, MB"]
    return (
        "A language model's loss and its gradient with respect to the inputs of the output layer, "
        "in bfloat16, where every token counts: from all logits at once, and from those of a few "
        "tokens at a time (`lora_tune/fast/chunked_loss.py`). Memory is the peak above what was "
        "held before, in a fresh process for each:\n\n" + _format_table(rows, headers)
    )


def measure_loss(side: str, tokens: int, width: int, vocabulary: int) -> dict[str, float]:
    """Compute a loss and its gradient twice.

    Args:
        side: whole or chunks.

    Returns:
        The seconds of the second time, and the bytes of peak memory above what was held before.
    """
    from lora_tune.fast.chunked_loss import ChunkedLoss

    keep_freed_memory()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, width, generator=generator).bfloat16().requires_grad_()
    weight = torch.empty(vocabulary, width, dtype=torch.bfloat16)
    weight.normal_(0, 0.02, generator=generator)
    targets = torch.randint(vocabulary, (tokens,), generator=generator)
    before = _peak_memory_bytes()
    for _ in range(2):
        start = time.perf_counter()
        if side == "whole":
            loss = cross_entropy(linear(x, weight).float(), targets, reduction="sum")
        else:
            loss = ChunkedLoss.apply(x, weight, None, targets, 0.0)
        torch.autograd.grad(loss, x)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "memory_bytes": _peak_memory_bytes() - before}


def _peak_memory_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _compare_trunks(data: str) -> str:
    """Compare training the last two layers with and without cached states of those below."""
    runs: dict[str, list[float]] = {"recomputed": [], "cached": []}
    for _ in range(ROUNDS):
        for side, done in runs.items():
            done.append(run_module("benchmarks.speed.parts", "trunk", side, data)["seconds"])
            print(f"frozen trunk, {side}: {done[-1]:.1f} s", flush=True)
    seconds = [f"{median(done):.1f}" for done in runs.values()]
    rows = [[TRUNK_ROWS, TRUNK_EPOCHS, *seconds, _median_ratio(*runs.values())]]
    return (
        "Training LoRA on the last two of MiniLM's six layers, with the states of the frozen "
        "layers below recomputed in every epoch, and cached (`lora_tune/fast/frozen_trunk.py`); "
        "the whole training, the equivalence check included:\n\n"
        + _format_table(rows, ["rows", "epochs", "recomputed, s", "cached, s", "speed-up"])
    )


def measure_trunk(side: str, data: str) -> dict[str, float]:
    """Train the last layers; returns the seconds.

    Args:
        side: recomputed or cached.
    """
    from benchmarks.speed.contestants import prepare, train_with_lora_tune
    from benchmarks.speed.step_clock import StepClock

    keep_freed_memory()
    quiet_libraries()
    overrides = [
        f"lora.layers_to_transform={TRAINED_LAYERS}",
        f"training.num_train_epochs={TRUNK_EPOCHS}",
    ]
    recomputed = mock.patch("lora_tune.fast.acceleration.frozen_trunk", return_value=nullcontext())
    with (
        tempfile.TemporaryDirectory() as folder,
        recomputed if side == "recomputed" else nullcontext(),
    ):
        context, _ = prepare(
            "ours",
            data,
            rows=TRUNK_ROWS,
            max_length=256,
            seed=42,
            evaluates=False,
            folder=folder,
            overrides=overrides,
        )
        start = time.perf_counter()
        train_with_lora_tune(context, StepClock())
        return {"seconds": time.perf_counter() - start}


if __name__ == "__main__":
    name, *words = sys.argv[1:]
    if name == "loss":
        print(json.dumps(measure_loss(words[0], *map(int, words[1:]))))
    elif name == "trunk":
        print(json.dumps(measure_trunk(*words)))
    else:
        main(name)
