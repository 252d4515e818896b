"""One system against every other on the same test rows: was LoRA worth training, what to use?"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lora_tune.data.preprocessing import format_row
from lora_tune.evaluation.results import (
    BASE,
    CONSTANT,
    COSTLY,
    IN_SENTENCE,
    KEPT,
    LORA,
    MAJORITY,
    Result,
)
from lora_tune.metrics.metric import ACCURACY, Metric
from lora_tune.metrics.paired_comparison import (
    PairedComparison,
    compare_counts,
    describe_comparison,
)
from lora_tune.metrics.statistics import metric_interval, wilson_interval
from lora_tune.tasks import Prediction


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
    """LoRA, or another system that is evaluated, against one more."""

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
    """Every system on the same test rows, and the last, as a rule LoRA, against each."""

    task: str
    metric: str  # the primary metric, of `difference`
    test_rows: int
    headline: str
    best_baseline: str  # the best of the systems that take seconds
    recommended: str  # the system to use: LoRA, or the best baseline where it scores as high
    base: dict[str, float]  # metrics of the base model
    adapted: dict[str, float]  # of LoRA
    difference: float  # adapted - base
    difference_interval: tuple[float, float] | None  # over test rows; None: see `interval_reason`
    untrained_head: bool  # whether the base model's head is random
    results: list[Score]
    comparisons: list[SystemComparison]
    seeds: list[SeedScore]  # where there are several; the first is that of the adapter
    groups: list[dict[str, Any]]  # LoRA's metrics by label or type, where the task has such
    error_summary: str  # LoRA's worst class and commonest confusion, in words; may be empty
    warnings: list[str]  # what a reader of the numbers must know

    @property
    def beats_best_baseline(self) -> bool:
        """Whether the rows show that LoRA is better than the best of the cheap baselines."""
        best = next(c for c in self.comparisons if c.name == self.best_baseline)
        return self.recommended != best.name and best.paired.is_significant

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
    metric: Metric,
    untrained_head: bool,
    warnings: Sequence[str],
    groups: Sequence[dict[str, Any]] = (),
    error_summary: str = "",
    seeds: Mapping[int, Result] | None = None,
    headline_warning: str = "",
) -> Comparison:
    """Compare the last of the results, as a rule LoRA's, with each other on the same rows.

    Args:
        results: of systems. Without the base model, the first takes its place.
        metric: the primary metric.
        groups: LoRA's metrics by label or type; see `Task.metrics_by_group`.
        error_summary: of LoRA; see `summarize_errors`.
        seeds: LoRA as trained with each seed, where there are several.
        headline_warning: precedes the headline.
    """
    counts = {result.name: result.evaluation.counts for result in results}
    metrics = {result.name: result.evaluation.metrics for result in results}
    *others, last = results
    subject, reference = last.name, BASE if BASE in metrics else others[0].name
    first = IN_SENTENCE[subject][0].upper() + IN_SENTENCE[subject][1:]  # of a sentence
    comparisons = []
    for result in others:
        paired = compare_counts(counts[subject], counts[result.name], metric)
        verdict = describe_comparison(paired, first, IN_SENTENCE[result.name], metric=metric)
        comparisons.append(SystemComparison(result.name, paired, verdict))
    sign = -1 if metric.lower_is_better else 1
    cheap = [comparison for comparison in comparisons if comparison.name not in COSTLY]
    best = min(cheap, key=lambda comparison: sign * comparison.paired.difference)
    base = next(c.paired for c in comparisons if c.name == reference)
    best_result = next(result for result in others if result.name == best.name)
    reason = _headline(best, best_result, subject=first, metric=metric)
    return Comparison(
        task=last.evaluation.task.name,
        metric=metric.name,
        test_rows=len(counts[subject]),
        headline=f"{headline_warning} {reason}".strip(),
        best_baseline=best.name,
        recommended=subject if sign * best.paired.difference > 0 else best.name,
        base=metrics[reference],
        adapted=metrics[subject],
        difference=metrics[subject][metric.name] - metrics[reference][metric.name],
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


def _headline(best: SystemComparison, result: Result, *, subject: str, metric: Metric) -> str:
    """One system against the best of the cheap baselines.

    Args:
        best: the comparison with it.
        result: of this baseline.
        subject: the system, as a sentence begins with it.
        metric: the primary metric.
    """
    sign = -1 if metric.lower_is_better else 1
    is_ahead = sign * best.paired.difference > 0
    if is_ahead and best.paired.is_significant:
        return best.verdict
    score = f"{metric.title} {result.evaluation.metrics[metric.name]:.3f}"
    other = f"{IN_SENTENCE[best.name]} ({score})"
    if is_ahead:
        return f"{subject} is ahead of {other}, but not significantly. {best.verdict}"
    cost = _describe_cost(result)
    return f"{subject} does not beat {other}{cost}. {best.verdict}"


def _describe_cost(result: Result) -> str:
    """Describe how long a baseline takes to train; empty where it needs no training."""
    if not result.trained_parameters or result.train_seconds is None:
        return ""
    seconds = round(result.train_seconds)
    amount = f"{seconds} seconds" if seconds > 1 else "a second"
    return f", which trains in {amount}"


def describe_recommendation(comparison: Comparison, *, adapter: str, baseline: str | None) -> str:
    """Say in one line which system to use, and why.

    Args:
        comparison: of LoRA and the others.
        adapter: what the adapter is called, such as its path.
        baseline: what the saved baseline is called; None where none is saved.
    """
    name = comparison.recommended
    if name == LORA:
        used = adapter
    elif name in KEPT and baseline is not None:
        used = baseline
    elif name in (MAJORITY, CONSTANT) or (name == BASE and comparison.untrained_head):
        used = "none of these systems"  # none has learned anything
    else:
        used = IN_SENTENCE[name]
    return f"Use {used}: {comparison.headline}"
