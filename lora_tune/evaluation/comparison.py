"""LoRA against every other system on the same test rows: was it worth training?"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lora_tune.data.preprocessing import format_row
from lora_tune.evaluation.results import BASE, COSTLY, IN_SENTENCE, LORA, Result
from lora_tune.metrics.metric import ACCURACY, Metric
from lora_tune.metrics.paired_comparison import (
    PairedComparison,
    compare_counts,
    describe_comparison,
)
from lora_tune.metrics.statistics import metric_interval, wilson_interval
from lora_tune.tasks import Prediction, Task


@dataclass(frozen=True)
class Score:
    """The metrics of one system on the test rows."""

    name: str
    metrics: dict[str, float]
    interval: tuple[float, float] | None  # of the primary metric; None where rows are too few
    trained_parameters: int | None  # None where it was not trained here
    train_seconds: float | None
    note: str


@dataclass(frozen=True)
class SystemComparison:
    """LoRA against another system."""

    name: str  # of the other
    paired: PairedComparison
    verdict: str  # in words


@dataclass(frozen=True)
class SeedScore:
    """The metrics of LoRA with one seed."""

    seed: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """Every system on the same test rows, and LoRA against each."""

    task: str
    metric: str  # the primary metric, of `difference`
    test_rows: int
    headline: str
    best_baseline: str  # the best of the systems that take seconds
    base: dict[str, float]  # metrics
    adapted: dict[str, float]
    difference: float  # adapted - base
    difference_interval: tuple[float, float] | None  # over test rows; None: see `interval_reason`
    untrained_head: bool  # whether the base model's head is random
    results: list[Score]
    comparisons: list[SystemComparison]
    seeds: list[SeedScore]  # where there are several; the first is that of the adapter
    groups: list[dict[str, Any]]  # LoRA's metrics by label or type, where the task has such
    error_summary: str  # LoRA's worst class and commonest confusion, in words; may be empty
    warnings: list[str]  # what a reader of the numbers must know

    def to_json(self) -> dict[str, Any]:
        """The content of `comparison.json`, each comparison on one level."""
        content = asdict(self)
        content["comparisons"] = [
            {"name": c.name, "verdict": c.verdict, **asdict(c.paired)}
            | {"minimum_detectable_difference": c.paired.minimum_detectable_difference()}
            for c in self.comparisons
        ]
        return content


@dataclass(frozen=True)
class Cost:
    """What an adapter took to train, and what it takes to keep."""

    trainable_parameters: int
    total_parameters: int
    adapter_bytes: int  # of the weights file
    train_seconds: float
    peak_memory_bytes: int  # of the process; see `peak_memory_bytes`


@dataclass(frozen=True)
class Example:
    """An example of the recipe, before and after training."""

    text: str
    base: str  # its prediction
    adapted: str


def compare(
    results: Sequence[Result],
    *,
    task: Task,
    metric: Metric,
    untrained_head: bool,
    warnings: Sequence[str],
    groups: Sequence[dict[str, Any]] = (),
    error_summary: str = "",
    seeds: Mapping[int, Result] | None = None,
    headline_warning: str = "",
) -> Comparison:
    """Compare the results of systems, the base model and LoRA among them, on the same rows.

    Args:
        metric: the primary metric.
        groups: LoRA's metrics by label or type; see `Task.metrics_by_group`.
        error_summary: of LoRA; see `summarize_errors`.
        seeds: LoRA as trained with each seed, where there are several.
        headline_warning: precedes the headline.
    """
    counts = {result.name: result.evaluation.counts for result in results}
    metrics = {result.name: result.evaluation.metrics for result in results}
    comparisons = []
    for result in results:
        if result.name != LORA:
            paired = compare_counts(counts[LORA], counts[result.name], metric)
            verdict = describe_comparison(
                paired, IN_SENTENCE[LORA], IN_SENTENCE[result.name], metric=metric
            )
            comparisons.append(SystemComparison(result.name, paired, verdict))
    sign = -1 if metric.lower_is_better else 1
    cheap = [comparison for comparison in comparisons if comparison.name not in COSTLY]
    best = min(cheap, key=lambda comparison: sign * comparison.paired.difference)
    base = next(comparison.paired for comparison in comparisons if comparison.name == BASE)
    return Comparison(
        task=task.name,
        metric=metric.name,
        test_rows=len(counts[LORA]),
        headline=f"{headline_warning} {_headline(best, sign)}".strip(),
        best_baseline=best.name,
        base=metrics[BASE],
        adapted=metrics[LORA],
        difference=metrics[LORA][metric.name] - metrics[BASE][metric.name],
        difference_interval=base.interval,
        untrained_head=untrained_head,
        results=[
            Score(
                result.name,
                result.evaluation.metrics,
                _interval(counts[result.name], metric),
                result.trained_parameters,
                result.train_seconds,
                result.note,
            )
            for result in results
        ],
        comparisons=comparisons,
        seeds=[
            SeedScore(seed, result.evaluation.metrics)
            for seed, result in (seeds or {}).items()
            if len(seeds or {}) > 1
        ],
        groups=list(groups),
        error_summary=error_summary,
        warnings=list(warnings),
    )


def compare_examples(
    rows: Sequence[Any], base: Sequence[Prediction], adapted: Sequence[Prediction]
) -> list[Example]:
    """Put the predictions for a recipe's examples before and after training side by side."""
    return [
        Example(format_row(row), before.describe(), after.describe())
        for row, before, after in zip(rows, base, adapted, strict=True)
    ]


def _interval(counts: np.ndarray, metric: Metric) -> tuple[float, float] | None:
    """Compute the confidence interval of a system's metric from its counts, (rows, counts)."""
    if metric == ACCURACY:
        return wilson_interval(int(counts[:, 0].sum()), len(counts))
    return metric_interval(counts, metric.from_sums)


def _headline(best: SystemComparison, sign: int) -> str:
    """LoRA against the best of the cheap baselines."""
    if best.paired.is_significant and sign * best.paired.difference > 0:
        return best.verdict
    return f"LoRA does not beat {IN_SENTENCE[best.name]}. {best.verdict}"
