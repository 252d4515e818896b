"""What the terminal shows, as text: one function for each table."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from lora_tune.adapter import AdaptedModules
from lora_tune.comparison import CONFIDENCE, Comparison, Example
from lora_tune.counting import ParameterCount
from lora_tune.data import Data
from lora_tune.prediction import Prediction

QUANTILES = (0.5, 0.9, 0.99, 1.0)
TEXT_WIDTH = 60  # characters of an example


def data_table(data: Data, source: str) -> str:
    """Rows per split and class, token lengths, truncation, duplicates."""
    rows = []
    for name, split in data.splits.items():
        counts = np.bincount(split.rows.labels, minlength=len(data.labels))
        lengths = np.quantile(split.token_counts, QUANTILES, method="higher")
        truncated = np.mean(split.token_counts > data.max_length)
        rows.append([name, len(split.rows.texts), *counts, *lengths, f"{truncated:.1%}"])
    headers = ["split", "rows", *data.labels, "tokens p50", "p90", "p99", "max"]
    headers.append(f"cut at {data.max_length}")
    lines = [f"Data: {source}", _table(rows, headers), *_notes(data.caveats)]
    if not data.duplicates:
        lines.append("No test text stands in train or validation.")
    return "\n".join(lines)


def adapter_table(modules: Sequence[AdaptedModules], trainable: int, total: int) -> str:
    """What is trained: per module name, how many layers and parameters."""
    rows = [
        [module.name, module.kind, module.layers, f"{module.parameters:,}"] for module in modules
    ]
    table = _table(rows, ["module", "trained", "layers", "parameters"])
    return f"{table}\nTrainable: {trainable:,} of {total:,} parameters ({trainable / total:.2%})"


def comparison_table(comparison: Comparison, device: str) -> str:
    """Base against adapted model, and how sure the difference is."""
    rows = [
        [
            name.replace("_", " "),
            f"{comparison.base[name]:.3f}",
            f"{comparison.adapted[name]:.3f}",
            f"{comparison.adapted[name] - comparison.base[name]:+.3f}",
        ]
        for name in comparison.base
    ]
    low, high = comparison.difference_interval
    return "\n".join(
        [
            _table(rows, [f"{comparison.test_rows} test rows", "base", "adapted", "difference"]),
            f"{comparison.metric.capitalize()} {comparison.difference:+.3f}, "
            f"{CONFIDENCE:.0%} interval {low:+.3f} to {high:+.3f} over test rows."
            + (" The base has a fresh head, so it guesses." if comparison.fresh_head else ""),
            f"Trained {comparison.trainable_parameters:,} of {comparison.total_parameters:,} "
            f"parameters in {comparison.train_seconds:.0f} s on {device}; adapter "
            f"{comparison.adapter_bytes / 1000:,.0f} kB.",
            *_notes(comparison.caveats),
        ]
    )


def examples_table(examples: Sequence[Example]) -> str:
    """The recipe's examples, classified before and after training."""
    rows = [
        [_shorten(example.text), _answer(example.base), _answer(example.adapted)]
        for example in examples
    ]
    return _table(rows, ["example", "base", "adapted"])


def prediction_table(texts: Sequence[str], predictions: Sequence[Prediction]) -> str:
    """Labels and probabilities, a row for each text."""
    labels = list(predictions[0].probabilities)
    rows = [
        [p.label, *(f"{p.probabilities[label]:.3f}" for label in labels), _shorten(text)]
        for text, p in zip(texts, predictions, strict=True)
    ]
    return _table(rows, ["label", *labels, "text"])


def parameter_table(counts: Sequence[ParameterCount], style: str = "simple") -> str:
    """The sizes of recipes' adapters."""
    rows = [
        [
            count.recipe,
            count.base,
            count.rank,
            f"{count.adapter_parameters:,}",
            f"{count.head_parameters:,}",
            f"{count.trainable_parameters:,}",
            f"{count.total_parameters:,}",
            f"{count.trainable_parameters / count.total_parameters:.2%}",
            f"{count.adapter_bytes:,}",
        ]
        for count in counts
    ]
    headers = ["recipe", "base", "rank", "adapter", "head", "trainable", "total", "share", "bytes"]
    return _table(rows, headers, style)


def _table(rows: Sequence[Sequence[Any]], headers: Sequence[str], style: str = "simple") -> str:
    numeric = [all(_is_number(row[i]) for row in rows) for i in range(len(headers))]
    align = ["right" if is_number else "left" for is_number in numeric]
    return tabulate(rows, headers, tablefmt=style, disable_numparse=True, colalign=align)


def _notes(caveats: Sequence[str]) -> list[str]:
    return [f"Note: {caveat}" for caveat in caveats]


def _is_number(cell: Any) -> bool:
    return str(cell).strip("+-%").replace(",", "").replace(".", "", 1).isdigit()


def _answer(prediction: Prediction) -> str:
    return f"{prediction.label} {prediction.probabilities[prediction.label]:.2f}"


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= TEXT_WIDTH else line[: TEXT_WIDTH - 3] + "..."
