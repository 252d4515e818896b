"""Comparisons find planted differences, and only those, and have no NaN on few rows."""

import json

import numpy as np
import pytest

from lora_tune.evaluation.comparison import compare, describe_recommendation
from lora_tune.evaluation.results import Result
from lora_tune.metrics.paired_comparison import format_p_value
from tests.answers import TASK, evaluate_logits


def make_result(name, correct, labels, classes):
    """Make the result of a system that is correct where `correct` is true."""
    predicted = np.where(correct, labels, (labels + 1) % classes)
    logits = 2.0 * np.eye(classes)[predicted]
    return Result(name, evaluate_logits(logits, labels), 10, 1.0)


def compare_systems(labels, classes=2, headline_warning="", untrained_head=True, **correct):
    """Compare systems by the rows on which each is correct."""
    return compare(
        [make_result(name, rows, labels, classes) for name, rows in correct.items()],
        metric=TASK.primary_metric,
        untrained_head=untrained_head,
        warnings=[],
        headline_warning=headline_warning,
    )


def draw(rows=2000, seed=0):
    """Draw labels, a number from 0 to 1 for each row, and the generator."""
    random = np.random.default_rng(seed)
    return random.integers(0, 2, rows), random.random(rows), random


def test_an_adapter_that_changes_nothing_shows_no_difference():
    labels, chance, _ = draw()
    base = chance < 0.8
    found = compare_systems(labels, majority=labels == 1, base=base, lora=base)
    comparison = next(c for c in found.comparisons if c.name == "base")
    paired = comparison.paired
    assert (paired.difference, paired.p_value) == (0, 1)
    assert comparison.verdict == (
        "LoRA and the base model are correct on the same rows: no significant difference (95% "
        "interval -0.2 to 0.2); minimum detectable difference with 2,000 rows: 0.4 points."
    )
    assert found.headline.startswith("LoRA does not beat the base model (accuracy 0.7")
    assert found.recommended == "base"
    assert found.difference_interval == pytest.approx((-0.0019, 0.0019), abs=1e-4)


def test_a_planted_gain_of_five_points_is_a_gain():
    labels, chance, random = draw()
    base = chance < 0.8
    lora = base.copy()
    lora[random.choice(np.flatnonzero(~base), 100, replace=False)] = True
    found = compare_systems(labels, tfidf=base, base=labels == 1, lora=lora)
    assert found.headline.startswith(
        "LoRA is better than the TF-IDF baseline by 5.0 points, 95% interval"
    )
    assert found.headline.endswith("p < 0.001.")
    paired = next(c.paired for c in found.comparisons if c.name == "tfidf")
    assert (paired.first_only, paired.second_only) == (100, 0)
    low, high = paired.interval
    assert 0.03 < low < 0.05 < high < 0.07


def test_a_baseline_that_is_better_is_in_the_headline():
    labels, chance, _ = draw()
    found = compare_systems(labels, tfidf=chance < 0.9, base=labels == 1, lora=chance < 0.85)
    assert found.headline.startswith("LoRA does not beat the TF-IDF baseline (accuracy 0.9")
    trains = "which trains in a second. LoRA is worse than the TF-IDF baseline by"
    assert trains in found.headline
    assert found.best_baseline == found.recommended == "tfidf"


@pytest.mark.parametrize(
    ("name", "untrained", "lora", "line"),
    [
        ("tfidf", True, 0.95, "Use here/adapter: LoRA is better than the TF-IDF baseline by"),
        (
            "tfidf",
            True,
            0.801,
            "Use here/adapter: LoRA is ahead of the TF-IDF baseline (accur",
        ),
        ("tfidf", True, 0.8, "Use here/baseline: LoRA does not beat the TF-IDF baseline (accuracy"),
        ("linear_probe", True, 0.7, "Use here/baseline: LoRA does not beat the linear probe (acc"),
        ("base", False, 0.7, "Use the base model: LoRA does not beat the base model (accuracy 0."),
        ("base", True, 0.7, "Use none of these systems: LoRA does not beat the base model (acc"),
        ("majority", True, 0.7, "Use none of these systems: LoRA does not beat the majority class"),
    ],
)
def test_the_recommendation(name, untrained, lora, line):
    labels, chance, _ = draw()
    systems = {"majority": chance > 0.9, "base": chance > 0.9} | {name: chance < 0.8}
    found = compare_systems(labels, untrained_head=untrained, **systems, lora=chance < lora)
    places = {"adapter": "here/adapter", "baseline": "here/baseline"}
    assert describe_recommendation(found, **places).startswith(line)
    assert found.recommended == ("lora" if lora > 0.8 else name)
    assert found.beats_best_baseline == (lora == 0.95)
    assert ("not significantly. LoRA against" in found.headline) == (lora == 0.801)


def test_a_baseline_that_is_not_saved_is_named():
    labels, chance, _ = draw()
    found = compare_systems(labels, base=chance > 0.9, tfidf=chance < 0.8, lora=chance < 0.7)
    line = describe_recommendation(found, adapter="adapter", baseline=None)
    assert line.startswith("Use the TF-IDF baseline: LoRA does not beat the TF-IDF baseline")


def test_a_baseline_is_compared_with_the_majority_class():
    labels, chance, _ = draw()
    found = compare_systems(labels, majority=chance < 0.5, tfidf=chance < 0.8)
    assert found.headline.startswith("The TF-IDF baseline is better than the majority class by 27.")
    assert (found.base["accuracy"], found.adapted["accuracy"]) == (
        pytest.approx((chance < 0.5).mean()),
        pytest.approx((chance < 0.8).mean()),
    )
    assert found.recommended == "tfidf"


def test_full_fine_tuning_is_not_a_baseline():
    labels, chance, _ = draw()
    found = compare_systems(labels, base=labels == 1, full=chance < 0.9, lora=chance < 0.85)
    assert found.best_baseline == "base"
    verdict = next(c.verdict for c in found.comparisons if c.name == "full")
    assert verdict.startswith("LoRA is worse than full fine-tuning")


def test_a_warning_precedes_the_headline():
    labels, chance, _ = draw(200)
    found = compare_systems(
        labels, base=labels == 1, lora=chance < 0.9, headline_warning="Selected on test."
    )
    assert found.headline.startswith("Selected on test. LoRA is better")


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_few_rows_show_no_difference(rows):
    labels = np.zeros(rows, dtype=int)
    found = compare_systems(labels, base=np.zeros(rows, bool), lora=np.ones(rows, bool))
    text = json.dumps(found.to_json(), allow_nan=False)
    count = "1 row" if rows == 1 else f"{rows} rows"
    p_value = format_p_value(0.5 ** (rows - 1))
    low = min(0, (rows - 3.8415) / (rows + 3.8415))
    interval = f"95% interval {100 * low:.1f} to 100.0"
    assert f"no significant difference (+100.0 points, {interval}, {p_value})" in text
    assert f"minimum detectable difference with {count}: none" in text


def test_one_class_and_three_give_finite_numbers():
    labels = np.full(30, 2)
    correct = np.arange(30) < 20
    found = compare_systems(labels, classes=3, base=~correct, lora=correct)
    json.dumps(found.to_json(), allow_nan=False)
    assert found.adapted["accuracy"] == pytest.approx(2 / 3)
