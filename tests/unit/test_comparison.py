"""What a comparison says: gains are gains, nothing is nothing, and edges get words, not NaN."""

import json

import numpy as np
import pytest

from lora_tune.comparison import compare, comparison_json
from lora_tune.ladder import Rung
from lora_tune.metrics import ENTITY_F1, PERPLEXITY
from lora_tune.pairs import compare_counts, compare_rows, describe_p, describe_pair
from tests.answers import TASK, judge_logits


def rung(name, right, labels, classes=2):
    """A rung that is right where `right` says."""
    predicted = np.where(right, labels, (labels + 1) % classes)
    logits = 2.0 * np.eye(classes)[predicted]
    return Rung(name, judge_logits(logits, labels), 10, 1.0)


def judge(labels, classes=2, warning="", **right):
    rungs = [rung(name, values, labels, classes) for name, values in right.items()]
    return compare(
        rungs, task=TASK, measure=TASK.measure, fresh_head=True, caveats=[], warning=warning
    )


def answers(rows=2000, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 2, rows), random.random(rows), random


def test_an_adapter_that_changes_nothing_shows_no_difference():
    labels, chance, _ = answers()
    base = chance < 0.8
    found = judge(labels, majority=labels == 1, base=base, lora=base)
    verdict = next(v for v in found.pairs if v.rung == "base")
    assert (verdict.pair.difference, verdict.pair.interval, verdict.pair.p_value) == (0, None, 1)
    assert verdict.verdict == (
        "LoRA and the base have the same rows right: no difference shown; 2,000 rows can show 0.4 "
        "points."
    )
    assert found.headline.startswith("LoRA does not clear the base, which costs next to nothing.")
    assert found.difference_interval is None


def test_a_planted_gain_of_five_points_is_a_gain():
    labels, chance, random = answers()
    base = chance < 0.8
    lora = base.copy()
    lora[random.choice(np.flatnonzero(~base), 100, replace=False)] = True
    found = judge(labels, words=base, base=labels == 1, lora=lora)
    assert found.headline.startswith("LoRA is better than words alone by 5.0 points, 95% interval")
    assert found.headline.endswith("p < 0.001.")
    pair = next(v.pair for v in found.pairs if v.rung == "words")
    assert (pair.first_only, pair.second_only) == (100, 0)
    low, high = pair.interval
    assert 0.03 < low < 0.05 < high < 0.07


def test_a_rung_that_is_better_is_named_first():
    labels, chance, _ = answers()
    found = judge(labels, words=chance < 0.9, base=labels == 1, lora=chance < 0.85)
    assert found.headline.startswith(
        "LoRA does not clear words alone, which costs next to nothing. LoRA is worse than words"
    )
    assert found.best_cheap == "words"


def test_full_fine_tuning_is_no_cheap_rung():
    labels, chance, _ = answers()
    found = judge(labels, base=labels == 1, full=chance < 0.9, lora=chance < 0.85)
    assert found.best_cheap == "base"
    assert any(v.verdict.startswith("LoRA is worse than full fine-tuning") for v in found.pairs)


def test_a_warning_stands_first():
    labels, chance, _ = answers(200)
    found = judge(labels, base=labels == 1, lora=chance < 0.9, warning="Selected on test.")
    assert found.headline.startswith("Selected on test. LoRA is better")


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_few_rows_show_nothing(rows):
    labels = np.zeros(rows, dtype=int)
    found = judge(labels, base=np.zeros(rows, bool), lora=np.ones(rows, bool))
    text = json.dumps(comparison_json(found), allow_nan=False)
    unit = "1 row" if rows == 1 else f"{rows} rows"
    p_value = describe_p(0.5 ** (rows - 1))
    assert f"no difference shown (+100.0 points, {p_value})" in text
    assert f"{unit} can show none" in text


def test_one_class_and_three_give_finite_numbers():
    labels = np.full(30, 2)
    right = np.arange(30) < 20
    found = judge(labels, classes=3, base=~right, lora=right)
    json.dumps(comparison_json(found), allow_nan=False)
    assert found.adapted["accuracy"] == pytest.approx(2 / 3)


def test_words_of_a_pair():
    first, second = np.ones(400, bool), np.ones(400, bool)
    first[:13], second[6:26] = False, False
    pair = compare_rows(first, second)
    assert describe_pair(pair, "LoRA", "the head") == (
        "LoRA against the head: no difference shown (+1.8 points, p = 0.17); 400 rows can show "
        "3.1 points."
    )
    worse = describe_pair(compare_rows(second, np.ones(400, bool)), "LoRA", "the head")
    assert worse.startswith("LoRA is worse than the head by 5.0 points, 95% interval 3.")


def test_a_measure_that_is_no_share_of_rows():
    """Perplexity: the lower the better, told in its own unit, tested by exchanging answers."""
    random = np.random.default_rng(5)
    tokens = random.integers(5, 40, 300).astype(float)
    worse = np.stack([tokens * random.normal(4.0, 0.3, 300), tokens], axis=1)
    better = worse - np.stack([0.2 * tokens, np.zeros(300)], axis=1)
    pair = compare_counts(better, worse, PERPLEXITY)
    first, second = (np.exp(c[:, 0].sum() / tokens.sum()) for c in (better, worse))
    assert pair.difference == pytest.approx(first - second)
    low, high = pair.interval
    assert low < pair.difference < high < 0
    assert (pair.first_only, pair.second_only, pair.p_value) == (300, 0, 1e-4)
    told = describe_pair(pair, "LoRA", "the base", measure=PERPLEXITY)
    assert told.startswith(f"LoRA is better than the base by {second - first:.3g} in perplexity")
    back = describe_pair(
        compare_counts(worse, better, PERPLEXITY), "LoRA", "the base", measure=PERPLEXITY
    )
    assert back.startswith("LoRA is worse than the base by")
    same = describe_pair(
        compare_counts(worse, worse, PERPLEXITY), "LoRA", "the base", measure=PERPLEXITY
    )
    assert same.startswith("LoRA and the base score alike in every row: no difference shown; ")


def test_a_few_rows_answered_otherwise_give_no_interval():
    random = np.random.default_rng(6)
    one = random.integers(0, 4, (200, 3)).astype(float)
    other = one.copy()
    other[:19, 0] += 1
    assert compare_counts(one, other, ENTITY_F1).interval is None
    other[:20, 0] += 1
    assert compare_counts(one, other, ENTITY_F1).interval is not None
