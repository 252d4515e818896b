"""The adapted model against everything cheaper, on the same test rows: was it worth training?"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lora_tune.ladder import Rung
from lora_tune.metrics import ACCURACY, Measure
from lora_tune.pairs import Pair, compare_counts, describe_pair
from lora_tune.statistics import measure_interval, wilson_interval
from lora_tune.tasks import Task

BASE, LORA = "base", "lora"
TITLES = {
    "majority": "majority class",
    "lead": "beginning of the prompt",
    "constant": "constant answer",
    "words": "words alone",
    BASE: "base",
    "head": "head alone",
    "last_layers": "last layers",
    "full": "full fine-tuning",
    LORA: "LoRA",
}
SPOKEN = {  # in a sentence
    "majority": "the majority class",
    "lead": "the beginning of the prompt",
    "constant": "the constant answer",
    "words": "words alone",
    BASE: "the base",
    "head": "the head alone",
    "last_layers": "the last layers alone",
    "full": "full fine-tuning",
    LORA: "LoRA",
}
COSTLY = {"last_layers", "full", LORA}  # trained like the adapter; the others cost next to nothing


@dataclass(frozen=True)
class Score:
    """How one rung of the ladder did on the test rows."""

    rung: str
    metrics: dict[str, float]
    interval: tuple[float, float] | None  # of the metric; None where the rows are too few
    trained_parameters: int | None  # None where it was not trained here
    train_seconds: float | None
    note: str


@dataclass(frozen=True)
class Verdict:
    """LoRA against another rung."""

    rung: str
    pair: Pair
    verdict: str  # in words


@dataclass(frozen=True)
class SeedScore:
    """What LoRA scored with one seed."""

    seed: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """Every rung on the same test rows, and LoRA against each."""

    task: str
    metric: str  # of difference
    test_rows: int
    headline: str
    best_cheap: str  # the best rung of those that cost next to nothing
    base: dict[str, float]  # metrics
    adapted: dict[str, float]
    difference: float  # adapted - base
    difference_interval: tuple[float, float] | None  # over test rows; None: no row tells
    fresh_head: bool  # the base's head is random, so the base guesses
    rungs: list[Score]
    pairs: list[Verdict]
    seeds: list[SeedScore]  # where there are several; the first is that of the adapter
    parts: list[dict[str, Any]]  # LoRA's answers by kind, where the task tells kinds apart
    caveats: list[str]  # what a reader of the numbers must know


@dataclass(frozen=True)
class Cost:
    """What an adapter took to train, and what it takes to keep."""

    trainable_parameters: int
    total_parameters: int
    adapter_bytes: int  # of the weights file
    train_seconds: float


@dataclass(frozen=True)
class Example:
    """A text of the recipe's own, before and after training."""

    text: str
    base: str  # what it says
    adapted: str


def compare(
    rungs: Sequence[Rung],
    *,
    task: Task,
    measure: Measure,
    fresh_head: bool,
    caveats: Sequence[str],
    parts: Sequence[dict[str, Any]] = (),
    seeds: Mapping[int, Rung] | None = None,
    warning: str = "",
) -> Comparison:
    """Compare the answers of rungs, the base and LoRA among them, to the same rows.

    Args:
        measure: what it decides by.
        parts: LoRA's answers by kind; see `Task.break_down`.
        seeds: LoRA as trained with each seed, where there are several.
        warning: to stand before the headline.
    """
    counts = {rung.name: rung.evaluation.counts for rung in rungs}
    metrics = {rung.name: rung.evaluation.metrics for rung in rungs}
    pairs = []
    for rung in rungs:
        if rung.name != LORA:
            pair = compare_counts(counts[LORA], counts[rung.name], measure)
            words = describe_pair(pair, SPOKEN[LORA], SPOKEN[rung.name], measure=measure)
            pairs.append(Verdict(rung.name, pair, words))
    sign = -1 if measure.lower_is_better else 1
    cheap = [verdict for verdict in pairs if verdict.rung not in COSTLY]
    best = min(cheap, key=lambda verdict: sign * verdict.pair.difference)
    base = next(verdict.pair for verdict in pairs if verdict.rung == BASE)
    return Comparison(
        task=task.name,
        metric=measure.name,
        test_rows=len(counts[LORA]),
        headline=f"{warning} {_headline(best, sign)}".strip(),
        best_cheap=best.rung,
        base=metrics[BASE],
        adapted=metrics[LORA],
        difference=metrics[LORA][measure.name] - metrics[BASE][measure.name],
        difference_interval=base.interval,
        fresh_head=fresh_head,
        rungs=[
            Score(
                rung.name,
                rung.evaluation.metrics,
                _interval(counts[rung.name], measure),
                rung.trained_parameters,
                rung.train_seconds,
                rung.note,
            )
            for rung in rungs
        ],
        pairs=pairs,
        seeds=[
            SeedScore(seed, rung.evaluation.metrics)
            for seed, rung in (seeds or {}).items()
            if len(seeds or {}) > 1
        ],
        parts=list(parts),
        caveats=list(caveats),
    )


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Give a comparison's content for JSON, each pair in one level."""
    content = asdict(comparison)
    content["pairs"] = [
        {"rung": v.rung, "verdict": v.verdict, **asdict(v.pair)}
        | {"smallest_difference": v.pair.smallest_difference()}
        for v in comparison.pairs
    ]
    return content


def _interval(counts: np.ndarray, measure: Measure) -> tuple[float, float] | None:
    """Bound what a rung scored on rows, (rows, counts)."""
    if measure == ACCURACY:
        return wilson_interval(int(counts[:, 0].sum()), len(counts))
    return measure_interval(counts, measure.of)


def _headline(best: Verdict, sign: int) -> str:
    """LoRA against the best of what costs next to nothing."""
    if best.pair.is_shown and sign * best.pair.difference > 0:
        return best.verdict
    return f"LoRA does not clear {SPOKEN[best.rung]}, which costs next to nothing. {best.verdict}"
