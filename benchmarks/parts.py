"""What some parts of lora_tune/fast are worth, each beside what it stands in for: `make bench`.

Each pair runs in turns. Writes results/parts.md.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from statistics import median
from typing import Any
from unittest import mock

import torch
from kept_output import RESULTS, name_processor
from tabulate import tabulate
from torch.nn.functional import cross_entropy, linear, scaled_dot_product_attention

from lora_tune.environment import describe_environment, keep_freed_memory, quiet_libraries

ROUNDS = 5
# Rows, heads, width of a head: MiniLM's; BERT-base's and GPT-2's.
HEADS = ((4, 12, 32), (4, 12, 64))
TOKENS = (128, 512, 1024, 2048)
KINDS = (
    ("padded", 0.0, torch.bfloat16),
    ("causal", 0.0, torch.bfloat16),
    ("padded", 0.1, torch.bfloat16),
    ("causal", 0.1, torch.float32),
)
DROPPED_OUT = (2048, 1536)  # tokens, width
# Tokens at once, width, words: GPT-2's, Llama 3's.
LAST_LAYERS = ((2048, 768, 50_257), (1024, 2048, 128_256))
TRUNK_ROWS, TRUNK_EPOCHS, TRAINED_LAYERS = 128, 3, "[4, 5]"


def main(data: str) -> None:
    """Measure, write."""
    keep_freed_memory()
    quiet_libraries()
    processor = name_processor(describe_environment("cpu"))
    # A process's peak memory is at least its parent's, which is small as yet.
    tables = [_losses(), _trunk(data), _dropout(), _attention()]
    told = "\n\n".join(tables)
    (RESULTS / "parts.md").write_text(
        "Made by `make bench DATA=DATA`: medians of pairs that run in turns, and the median of "
        f"their ratios, {ROUNDS} of each.\n{processor}.\n\n{told}\n"
    )


def _take_turns(*ways: Callable[[], float]) -> list[list[float]]:
    """Run each way once to warm up, then all in turns; what each returned."""
    for way in ways:
        way()
    rounds = [[way() for way in ways] for _ in range(ROUNDS)]
    return [list(found) for found in zip(*rounds, strict=True)]


def _ratio(plain: list[float], fast: list[float]) -> str:
    return f"{median(a / b for a, b in zip(plain, fast, strict=True)):.2f}"


def _dropout() -> str:
    """Compare drawing what dropout leaves with torch's."""
    from lora_tune.fast.cpu_dropout import draw_kept

    def run(draw: Callable[[Any], Any], dtype: torch.dtype) -> float:
        x = torch.zeros(DROPPED_OUT, dtype=dtype)
        start = time.perf_counter()
        draw(x)
        return time.perf_counter() - start

    rows = []
    for share in (0.01, 0.1):
        for dtype in (torch.bfloat16, torch.float32):
            plain, fast = _take_turns(
                partial(run, partial(torch.Tensor.bernoulli_, p=1 - share), dtype),
                partial(run, partial(draw_kept, dropout=share), dtype),
            )
            seconds = [f"{1e3 * median(found):.2f}" for found in (plain, fast)]
            told = str(dtype).removeprefix("torch.")
            rows.append([f"{share:g}", told, *seconds, _ratio(plain, fast)])
            print(*rows[-1], flush=True)
    headers = ["dropout", "type", "torch, ms", "ours, ms", "times"]
    return (
        "Drawing what dropout leaves of {:,} tokens of width {:,} ".format(*DROPPED_OUT)
        + "(`lora_tune/fast/cpu_dropout.py`):\n\n"
        + tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    )


def _attention() -> str:
    """Compare attention, forth and back, with torch's."""
    from lora_tune.fast.cpu_attention import WIDEST, ProductAttention

    rows = []
    for shape in HEADS:
        for tokens in TOKENS:
            for kind, dropout, dtype in KINDS:
                ways = _attend(ProductAttention, *shape, tokens, kind, dropout, dtype)
                plain, fast = _take_turns(*ways)
                seconds = [f"{1e3 * median(found):.1f}" for found in (plain, fast)]
                named = [kind, f"{dropout:g}", str(dtype).removeprefix("torch.")]
                rows.append(["{} x {} x {}".format(*shape), tokens, *named, *seconds])
                rows[-1].append(_ratio(plain, fast))
                print(*rows[-1], flush=True)
    headers = ["rows x heads x width", "tokens", "mask", "dropout", "type"]
    headers += ["torch, ms", "products, ms", "times"]
    return (
        "Attention, forth and back, by torch's own and by products "
        f"(`lora_tune/fast/cpu_attention.py`, which stands in for bfloat16 up to {WIDEST} tokens, "
        "and where there is dropout):\n\n"
        + tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    )


def _attend(
    function: Any,
    rows: int,
    heads: int,
    width: int,
    tokens: int,
    kind: str,
    dropout: float,
    dtype: torch.dtype,
) -> list[Callable[[], float]]:
    shape = (rows, heads, tokens, width)
    draw = torch.Generator().manual_seed(0)
    q, k, v, back = (torch.randn(shape, generator=draw).to(dtype) for _ in range(4))
    for tensor in (q, k, v):
        tensor.requires_grad_()
    scale = width**-0.5
    causal = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    seen = torch.ones(rows, 1, tokens, tokens, dtype=torch.bool)
    seen[0, ..., -tokens // 8 :] = False
    own: dict[str, Any] = {"is_causal": True} if kind == "causal" else {"attn_mask": seen}
    own |= {"scale": scale, "dropout_p": dropout}

    def run(attend: Callable[[], Any]) -> float:
        start = time.perf_counter()
        torch.autograd.grad(attend(), (q, k, v), back)
        return time.perf_counter() - start

    mask = causal if kind == "causal" else seen
    return [
        lambda: run(lambda: scaled_dot_product_attention(q, k, v, **own)),
        lambda: run(lambda: function.apply(q, k, v, mask, scale, dropout)),
    ]


def _losses() -> str:
    """Compare a language model's loss with that of logits made at once, each in its process."""
    rows = []
    for shape in LAST_LAYERS:
        found: dict[str, list[dict[str, float]]] = {"whole": [], "parts": []}
        for _ in range(ROUNDS):
            for way, done in found.items():
                done.append(_in_process("loss", way, *map(str, shape)))
        seconds, memory = (
            [[run[name] for run in done] for done in found.values()] for name in ("s", "bytes")
        )
        told = [f"{median(each):.2f}" for each in seconds]
        told += [_ratio(*seconds), *(f"{median(each) / 1e6:,.0f}" for each in memory)]
        rows.append(["{:,} x {:,} x {:,}".format(*shape), *told])
        print(*rows[-1], flush=True)
    headers = ["tokens x width x words", "whole, s", "in parts, s", "times"]
    headers += ["whole, MB", "in parts, MB"]
    return (
        "A language model's loss and the gradient of what its last layer reads, in bfloat16, "
        "every token judged, by all logits at once and by a few tokens' "
        "(`lora_tune/fast/chunked_loss.py`); memory is what is held at most above that before, in "
        "a fresh process for each:\n\n"
        + tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    )


def loss(way: str, tokens: int, width: int, words: int) -> dict[str, float]:
    """Compute a loss and its gradient; the second time's seconds, and the bytes held at most."""
    from lora_tune.fast.chunked_loss import ChunkedLoss

    keep_freed_memory()
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, width, generator=draw).bfloat16().requires_grad_()
    weight = torch.empty(words, width, dtype=torch.bfloat16).normal_(0, 0.02, generator=draw)
    targets = torch.randint(words, (tokens,), generator=draw)
    before = _held_at_most()
    for _ in range(2):
        start = time.perf_counter()
        if way == "whole":
            total = cross_entropy(linear(x, weight).float(), targets, reduction="sum")
        else:
            total = ChunkedLoss.apply(x, weight, None, targets, 0.0)
        torch.autograd.grad(total, x)
        seconds = time.perf_counter() - start
    return {"s": seconds, "bytes": _held_at_most() - before}


def _held_at_most() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _trunk(data: str) -> str:
    """Compare training the last two layers with and without the states of those below kept."""
    found: dict[str, list[float]] = {"run again": [], "kept": []}
    for _ in range(ROUNDS):
        for way, done in found.items():
            done.append(_in_process("trunk", way, data)["s"])
            print(f"trunk {way}: {done[-1]:.1f} s", flush=True)
    told = [f"{median(done):.1f}" for done in found.values()]
    rows = [[TRUNK_ROWS, TRUNK_EPOCHS, *told, _ratio(*found.values())]]
    headers = ["rows", "epochs", "run again, s", "kept, s", "times"]
    return (
        "Training LoRA on the last two of MiniLM's six layers, the states of the frozen ones below "
        "kept (`lora_tune/fast/frozen_trunk.py`) and run in every epoch; all of training, "
        "the proof among it:\n\n"
        + tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    )


def trunk(way: str, data: str) -> dict[str, float]:
    """Train; returns the seconds."""
    from speed_contestant import Watch, prepare, train_ours

    keep_freed_memory()
    quiet_libraries()
    changes = [
        f"lora.layers_to_transform={TRAINED_LAYERS}",
        f"training.num_train_epochs={TRUNK_EPOCHS}",
    ]
    plain = mock.patch("lora_tune.training.frozen_trunk", return_value=nullcontext())
    with tempfile.TemporaryDirectory() as folder, plain if way == "run again" else nullcontext():
        inputs, arguments = prepare(
            "ours", data, TRUNK_ROWS, 256, 42, 0, folder=folder, changes=changes
        )
        start = time.perf_counter()
        train_ours(inputs, arguments, Watch())
        return {"s": time.perf_counter() - start}


def _in_process(*words: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["LORA_TUNE_CACHE"] = ""  # nothing is recalled from another process
    name, *words = sys.argv[1:]
    if name == "loss":
        print(json.dumps(loss(words[0], *map(int, words[1:]))))
    elif name == "trunk":
        print(json.dumps(trunk(*words)))
    else:
        main(name)
