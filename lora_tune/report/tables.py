"""What a training run shows in the terminal, as text: one function for each table or line."""

import json
from collections.abc import Sequence
from functools import singledispatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tabulate import tabulate

from lora_tune.artifacts.reload_check import ReloadCheck
from lora_tune.config.redaction import redact
from lora_tune.data.splits import Data
from lora_tune.evaluation.comparison import (
    Comparison,
    Cost,
    Example,
    describe_recommendation,
)
from lora_tune.evaluation.results import TITLES
from lora_tune.lora.adapter import AdapterSummary
from lora_tune.metrics.statistics import CONFIDENCE
from lora_tune.models.quantization import WeightMemory
from lora_tune.report.data_preview import SHOWN_ROWS, is_packed, preview_rows
from lora_tune.run_context import RunContext
from lora_tune.system.environment import device_name, find_device
from lora_tune.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lora_tune.artifacts.baseline_writer import KeptBaseline  # imports the training
    from lora_tune.artifacts.run_writer import RunResults

QUANTILES = (0.5, 0.9, 0.99, 1.0)
MAX_LABEL_COLUMNS = 10  # of a table; more labels share one
TEXT_WIDTH = 60  # characters of a text in a table


@singledispatch
def render(shown: object) -> str:
    """Format what a run shows as text for the terminal.

    Raises:
        TypeError: there is no format for objects of this type.
    """
    raise TypeError(f"no text for the terminal is defined for {type(shown).__name__}")


@render.register
def _(shown: str) -> str:
    return shown


@render.register
def adapter_table(shown: AdapterSummary) -> str:
    """Format what is trained: layers and parameters of each module name."""
    rows = [
        [module.name, module.kind, module.layers, f"{module.parameters:,}"]
        for module in shown.modules
    ]
    table = format_table(rows, ["module", "trained as", "layers", "parameters"])
    trainable, total = shown.trainable_parameters, shown.total_parameters
    return f"{table}\nTrainable: {trainable:,} of {total:,} parameters ({trainable / total:.2%})"


def data_table(
    data: Data,
    source: str,
    *,
    task: Task,
    tokenizer: "PreTrainedTokenizerBase",
    shown_rows: int = SHOWN_ROWS,
) -> str:
    """Format each split's rows and token counts, warnings, and the first training rows.

    Args:
        data: the splits of a run.
        source: as the recipe names it.
        task: of the rows.
        tokenizer: of the model.
        shown_rows: how many training rows are shown as the model gets them.
    """
    rows = []
    for name, split in data.splits.items():
        counts = _summarize_counts(list(data.label_counts[name].values()))
        lengths = np.quantile(split.token_counts, QUANTILES, method="higher")
        truncated = f"{np.mean(split.token_counts > data.max_length):.1%}"
        if is_packed(split, task):
            truncated = "-"  # blocks lose nothing
        rows.append([name, len(split.rows.texts), *counts, *lengths, truncated])
    labels = list(data.label_counts["train"])
    labels = labels if len(labels) <= MAX_LABEL_COLUMNS else [f"rows of {len(labels)} labels"]
    headers = ["split", "rows", *labels, "tokens p50", "p90", "p99", "max"]
    headers.append(f"truncated at {data.max_length}")
    lines = [f"Data: {source}", format_table(rows, headers)]
    lines += format_warnings([*data.notes, *data.warnings])
    if not data.duplicates:
        lines.append("No test text occurs in train or validation.")
    lines += ["", *preview_rows(data, task=task, tokenizer=tokenizer, count=shown_rows)]
    return "\n".join(lines)


def _summarize_counts(counts: list[int]) -> list[Any]:
    """Show the rows of each label; of many labels, the least and the most."""
    if len(counts) <= MAX_LABEL_COLUMNS:
        return counts
    return [f"{min(counts)} to {max(counts)}"]


def comparison_table(
    comparison: Comparison, *, first_line: str = "", shown_warnings: Sequence[str] = ()
) -> str:
    """Format every system's metrics, and LoRA against each, after the headline.

    Args:
        comparison: of all systems.
        first_line: what to show instead of the headline; empty for the headline.
        shown_warnings: warnings that are not repeated.
    """
    others = [name for name in comparison.adapted if name != comparison.metric]
    rows = [
        [
            TITLES.get(score.name, score.name),
            format_number(score.metrics[comparison.metric]),
            format_interval(score.interval),
            *(
                format_number(score.metrics[name]) if name in score.metrics else "-"
                for name in others
            ),
            *([] if score.trained_parameters is None else [f"{score.trained_parameters:,}"]),
            *([] if score.train_seconds is None else [f"{score.train_seconds:.1f}"]),
        ]
        for score in comparison.results
    ]
    headers = [f"{comparison.test_rows} test rows", comparison.metric, f"{CONFIDENCE:.0%} interval"]
    headers = [name.replace("_", " ") for name in [*headers, *others]]
    headers += ["trained parameters", "train seconds"][: len(rows[0]) - len(headers)]
    lines = [first_line or comparison.headline, format_table(rows, headers)]
    lines += [comparison.error_summary] if comparison.error_summary else []
    lines += [c.verdict for c in comparison.comparisons if c.verdict not in comparison.headline]
    if comparison.groups:
        system = comparison.results[-1].name
        lines += ["", _groups_table(comparison.groups, TITLES.get(system, system)), ""]
    if comparison.untrained_head:
        lines.append("The base model's head is untrained: its predictions are at chance level.")
    if comparison.seeds:
        lines.append(seeds_line(comparison))
    new_warnings = [warning for warning in comparison.warnings if warning not in shown_warnings]
    return "\n".join([*lines, *format_warnings(new_warnings)])


def _groups_table(groups: Sequence[dict[str, Any]], system: str) -> str:
    """Format a system's metrics by label or entity type, whose name is the first column."""
    rows = [
        ["-" if cell is None else format_cell(cell) for cell in group.values()] for group in groups
    ]
    first, *others = groups[0]
    return format_table(rows, [f"{system}, {first}", *others])


def seeds_line(comparison: Comparison) -> str:
    """Format the primary metric of every seed, their mean and their spread."""
    values = [score.metrics[comparison.metric] for score in comparison.seeds]
    each = ", ".join(f"{s.seed}: {v:.3f}" for s, v in zip(comparison.seeds, values, strict=True))
    return (
        f"LoRA by seed: {each}. Mean {np.mean(values):.3f}, standard deviation "
        f"{np.std(values, ddof=1):.3f}, range {min(values):.3f} to {max(values):.3f}; the saved "
        f"adapter is that of the first seed, {comparison.seeds[0].seed}."
    )


def cost_line(cost: Cost, device: str) -> str:
    """Format what the training took."""
    return (
        f"Trained {cost.trainable_parameters:,} of {cost.total_parameters:,} parameters in "
        f"{cost.train_seconds:.0f} s on {device}; peak memory "
        f"{_format_megabytes(cost.peak_memory_bytes)}, adapter {cost.adapter_bytes / 1000:,.0f} kB."
    )


def weights_line(memory: WeightMemory, precision: str) -> str:
    """Format the memory of the base model's weights in another precision than float32."""
    return (
        f"Weights of the base model: {_format_megabytes(memory.float32_bytes)} in float32, "
        f"{_format_megabytes(memory.loaded_bytes)} in {precision}."
    )


def reload_line(reload: ReloadCheck) -> str:
    """Format the result of the reload check."""
    return (
        f"Reload check passed: {reload.rows} test rows in a fresh process, largest logit "
        f"difference {reload.largest_logit_difference:.2g}."
    )


def examples_table(examples: Sequence[Example]) -> str:
    """Format the predictions for the recipe's examples, before and after training."""
    rows = [
        [shorten_text(example.text), shorten_text(example.base), shorten_text(example.adapted)]
        for example in examples
    ]
    return format_table(rows, ["example", "base model", "LoRA"])


def baseline_line(kept: "KeptBaseline", place: Path) -> str:
    """Format where the baseline is that was saved beside the adapter."""
    line = f"Baseline saved: {TITLES[kept.name]}, {kept.size_bytes / 1000:,.0f} kB, in {place}."
    if kept.reload is None:
        return line
    return (
        f"{line} Reload check passed: {kept.reload.rows} test rows in a fresh process, largest "
        f"difference {kept.reload.largest_logit_difference:.2g}."
    )


def run_tables(run: "RunResults", context: RunContext, *, folder: Path) -> list[str]:
    """Format what a run shows at its end; the first line says what to use.

    Args:
        run: what it found.
        context: of the run.
        folder: of the run, as it is shown.
    """
    adapter, baseline = folder / "adapter", folder / "baseline"
    first_line = describe_recommendation(
        run.comparison, adapter=str(adapter), baseline=str(baseline) if run.kept else None
    )
    lines = [
        comparison_table(
            run.comparison, first_line=first_line, shown_warnings=context.data.warnings
        ),
        cost_line(run.cost, device_name(find_device())),
        reload_line(run.reload),
        *([] if run.kept is None else [baseline_line(run.kept, baseline)]),
    ]
    return ["\n".join(lines), *([examples_table(run.examples)] if run.examples else [])]


def format_table(
    rows: Sequence[Sequence[Any]], headers: Sequence[str], style: str = "simple"
) -> str:
    """Format a table; columns of numbers are right-aligned.

    Args:
        rows: cells of each row.
        headers: one for each column.
        style: a table format of tabulate.
    """
    numeric = [all(_is_number(row[i]) for row in rows) for i in range(len(headers))]
    align = ["right" if is_number else "left" for is_number in numeric]
    return tabulate(rows, headers, tablefmt=style, disable_numparse=True, colalign=align)


def format_warnings(warnings: Sequence[str]) -> list[str]:
    """Format each warning as a line."""
    return [f"Note: {warning}" for warning in warnings]


def format_number(value: float) -> str:
    """Format a number with three decimals, or from 10 on, such as a perplexity, with one."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def format_interval(interval: Sequence[float] | None) -> str:
    """Format an interval, or the lack of one."""
    return " to ".join(map(format_number, interval)) if interval else "-"


def format_cell(value: Any) -> str:
    """Format any value in a table."""
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, (list, dict)):
        return shorten_text(json.dumps(value, ensure_ascii=False))
    return shorten_text(str(value))


def shorten_text(text: str) -> str:
    """Truncate a text to one line of TEXT_WIDTH characters, without secrets."""
    line = redact(" ".join(text.split()))  # first, since half a secret is not found
    return line if len(line) <= TEXT_WIDTH else line[: TEXT_WIDTH - 3] + "..."


def _format_megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count < 100e6 else f"{count / 1e6:,.0f} MB"


def _is_number(cell: Any) -> bool:
    return str(cell).strip("+-%").replace(",", "").replace(".", "", 1).isdigit()
