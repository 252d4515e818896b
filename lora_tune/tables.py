"""What the terminal shows, as text: one function for each table."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from lora_tune.adapter import AdaptedModules
from lora_tune.comparison import LORA, TITLES, Comparison, Cost, Example
from lora_tune.counting import ParameterCount
from lora_tune.data import Data
from lora_tune.input_rows import InputRow
from lora_tune.merging import Parity
from lora_tune.precision import WeightMemory
from lora_tune.redaction import redact
from lora_tune.reload import ReloadCheck
from lora_tune.run_comparison import RunComparison
from lora_tune.shipping import Shipment
from lora_tune.statistics import CONFIDENCE
from lora_tune.tasks import Answer

QUANTILES = (0.5, 0.9, 0.99, 1.0)
TEXT_WIDTH = 60  # characters of an example


def data_table(data: Data, source: str) -> str:
    """Rows per split and class, token lengths, truncation, and what else to know of the rows."""
    rows = []
    for name, split in data.splits.items():
        counts = data.tallies[name].values()
        lengths = np.quantile(split.token_counts, QUANTILES, method="higher")
        truncated = np.mean(split.token_counts > data.max_length)
        rows.append([name, len(split.rows.texts), *counts, *lengths, f"{truncated:.1%}"])
    headers = ["split", "rows", *data.tallies["train"], "tokens p50", "p90", "p99", "max"]
    headers.append(f"cut at {data.max_length}")
    lines = [f"Data: {source}", _table(rows, headers), *_notes(data.caveats)]
    if not data.copies:
        lines.append("No test text stands in train or validation.")
    return "\n".join(lines)


def adapter_table(modules: Sequence[AdaptedModules], trainable: int, total: int) -> str:
    """What is trained: per module name, how many layers and parameters."""
    rows = [
        [module.name, module.kind, module.layers, f"{module.parameters:,}"] for module in modules
    ]
    table = _table(rows, ["module", "trained", "layers", "parameters"])
    return f"{table}\nTrainable: {trainable:,} of {total:,} parameters ({trainable / total:.2%})"


def comparison_table(comparison: Comparison, *, told: Sequence[str] = ()) -> str:
    """Every rung of the ladder, and LoRA against each, the verdict on the run first.

    Args:
        told: caveats that have been shown before.
    """
    others = [name for name in comparison.adapted if name != comparison.metric]
    rows = [
        [
            TITLES[score.rung],
            _number(score.metrics[comparison.metric]),
            _span(score.interval),
            *(_number(score.metrics[name]) if name in score.metrics else "-" for name in others),
            *([] if score.trained_parameters is None else [f"{score.trained_parameters:,}"]),
            *([] if score.train_seconds is None else [f"{score.train_seconds:.1f}"]),
        ]
        for score in comparison.rungs
    ]
    headers = [f"{comparison.test_rows} test rows", comparison.metric, f"{CONFIDENCE:.0%} interval"]
    headers = [name.replace("_", " ") for name in [*headers, *others]]
    headers += ["trained", "seconds"][: len(rows[0]) - len(headers)]
    lines = [comparison.headline, _table(rows, headers)]
    lines += [v.verdict for v in comparison.pairs if v.verdict not in comparison.headline]
    if comparison.parts:
        cells = [
            ["-" if cell is None else _cell(cell) for cell in p.values()] for p in comparison.parts
        ]
        lines += [
            "",
            _table(
                cells,
                [f"LoRA, {name}" if not n else name for n, name in enumerate(comparison.parts[0])],
            ),
            "",
        ]
    if comparison.fresh_head:
        lines.append("The base has a fresh head, so it guesses.")
    if comparison.seeds:
        lines.append(describe_seeds(comparison))
    return "\n".join([*lines, *_notes([c for c in comparison.caveats if c not in told])])


def describe_seeds(comparison: Comparison) -> str:
    """Every seed's score, their mean and spread; the published adapter's is the first."""
    values = [score.metrics[comparison.metric] for score in comparison.seeds]
    each = ", ".join(f"{s.seed}: {v:.3f}" for s, v in zip(comparison.seeds, values, strict=True))
    return (
        f"LoRA by seed: {each}. Mean {np.mean(values):.3f}, standard deviation "
        f"{np.std(values, ddof=1):.3f}, {min(values):.3f} to {max(values):.3f}; the adapter is "
        f"that of seed {comparison.seeds[0].seed}, the first named."
    )


def run_table(compared: RunComparison) -> str:
    """Several runs' adapters, and each pair of them."""
    metric = compared.measure.name
    others = [name for name in compared.runs[0].comparison["adapted"] if name != metric]
    rows = []
    for name, run in zip(compared.names, compared.runs, strict=True):
        score = run.score(LORA)
        assert score is not None
        rows.append(
            [
                name,
                _number(score["metrics"][metric]),
                _span(score["interval"]),
                *(_number(score["metrics"][name]) for name in others),
                f"{score['trained_parameters']:,}",
            ]
        )
    test_rows = compared.runs[0].comparison["test_rows"]
    headers = [f"{test_rows} test rows", metric, f"{CONFIDENCE:.0%} interval", *others, "trained"]
    table = _table(rows, [name.replace("_", " ") for name in headers])
    return "\n".join([table, *(pair.verdict for pair in compared.pairs)])


def cost_line(cost: Cost, device: str) -> str:
    """What training took."""
    return (
        f"Trained {cost.trainable_parameters:,} of {cost.total_parameters:,} parameters in "
        f"{cost.train_seconds:.0f} s on {device}; peak memory "
        f"{_megabytes(cost.peak_memory_bytes)}, adapter {cost.adapter_bytes / 1000:,.0f} kB."
    )


def weights_line(memory: WeightMemory, precision: str) -> str:
    """What holding the base's weights otherwise than in float32 saves."""
    return (
        f"Base weights: {_megabytes(memory.float32_bytes)} in float32, "
        f"{_megabytes(memory.loaded_bytes)} in {precision}."
    )


def reload_line(reload: ReloadCheck) -> str:
    """That the saved adapter is the trained one."""
    return (
        f"Loaded again in a fresh process, the adapter answers alike: {reload.rows} test rows, "
        f"largest logit difference {reload.largest_logit_difference:.2g}."
    )


def parity_table(parity: Parity) -> str:
    """What merging changed."""
    rows = [
        ["largest logit difference", f"{parity.largest_logit_difference:.2g}"],
        ["predictions flipped", f"{parity.flipped_predictions} of {parity.predictions}"],
        [f"{parity.metric}, adapter beside its base", f"{parity.unmerged:.4f}"],
        [f"{parity.metric}, merged", f"{parity.merged:.4f}"],
    ]
    held = " ".join(
        filter(None, [parity.base_quantization, parity.base_dtype.removeprefix("float32")])
    )
    base = f"{held} base, " if held else ""
    how = f"{parity.combination} of {len(parity.adapters)}, " if parity.combination else ""
    return _table(rows, [f"merged: {how}{base}{parity.dtype}", ""])


def shipment_table(shipment: Shipment) -> str:
    """The files that go up, and their bytes."""
    sizes = {name: len(content) for name, content in shipment.files.items()}
    rows = [[name, f"{size:,}"] for name, size in [*sizes.items(), ("total", sum(sizes.values()))]]
    table = _table(rows, [f"to {shipment.repository}", "bytes"])
    return "\n".join([table, *_notes(shipment.caveats)])


def examples_table(examples: Sequence[Example]) -> str:
    """The recipe's examples, classified before and after training."""
    rows = [
        [_shorten(example.text), _shorten(example.base), _shorten(example.adapted)]
        for example in examples
    ]
    return _table(rows, ["example", "base", "adapted"])


def prediction_table(
    answers: Sequence[tuple[InputRow, Answer | None]], names: Sequence[str]
) -> str:
    """Each answer and its probabilities, a row for each text; empty for a bad row.

    Args:
        names: of an answer's cells.
    """
    if list(names) == ["completion"]:  # in full, after what it answers
        pairs = [
            [_shorten(r.text or r.fault or ""), "" if a is None else a.label] for r, a in answers
        ]
        return _table(pairs, ["text", names[0]])
    shares = [name for name in names[1:] if name.startswith("p_")]
    rows = [
        [answer.label, *(_cell(answer.cells()[name]) for name in shares), _shorten(row.text)]
        if answer is not None
        else [*[""] * (1 + len(shares)), _shorten(row.fault or "")]
        for row, answer in answers
    ]
    return _table(rows, [names[0], *(name.removeprefix("p_") for name in shares), "text"])


def parameter_table(counts: Sequence[ParameterCount], style: str = "simple") -> str:
    """The sizes of recipes' adapters."""
    others = any(count.other_parameters for count in counts)
    rows = [
        [
            count.recipe,
            count.base,
            count.rank if count.rank == count.saved_rank else f"{count.rank} as {count.saved_rank}",
            f"{count.adapter_parameters:,}",
            f"{count.head_parameters:,}",
            *([f"{count.other_parameters:,}"] if others else []),
            f"{count.trainable_parameters:,}",
            f"{count.total_parameters:,}",
            f"{count.trainable_parameters / count.total_parameters:.2%}",
            f"{count.adapter_bytes:,}",
        ]
        for count in counts
    ]
    headers = ["recipe", "base", "rank", "adapter", "head", *(["of the base"] if others else [])]
    return _table(rows, [*headers, "trainable", "total", "share", "bytes"], style)


def _table(rows: Sequence[Sequence[Any]], headers: Sequence[str], style: str = "simple") -> str:
    numeric = [all(_is_number(row[i]) for row in rows) for i in range(len(headers))]
    align = ["right" if is_number else "left" for is_number in numeric]
    return tabulate(rows, headers, tablefmt=style, disable_numparse=True, colalign=align)


def _notes(caveats: Sequence[str]) -> list[str]:
    return [f"Note: {caveat}" for caveat in caveats]


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count < 100e6 else f"{count / 1e6:,.0f} MB"


def _is_number(cell: Any) -> bool:
    return str(cell).strip("+-%").replace(",", "").replace(".", "", 1).isdigit()


def _number(value: float) -> str:
    """Three decimals; of a larger number, such as a perplexity, one."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def _span(interval: Sequence[float] | None) -> str:
    return " to ".join(map(_number, interval)) if interval else "-"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, (list, dict)):
        return _shorten(json.dumps(value, ensure_ascii=False))
    return _shorten(str(value))


def _shorten(text: str) -> str:
    line = redact(" ".join(text.split()))  # before a secret is cut in two
    return line if len(line) <= TEXT_WIDTH else line[: TEXT_WIDTH - 3] + "..."
