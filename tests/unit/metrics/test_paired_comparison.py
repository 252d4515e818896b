"""Two systems on the same rows: the interval, the p-value and the verdict in words."""

import numpy as np
import pytest

from lora_tune.metrics.metric import ENTITY_F1, PERPLEXITY
from lora_tune.metrics.paired_comparison import compare_counts, compare_rows, describe_comparison


def test_verdicts_of_rows_that_are_correct_or_not():
    first, second = np.ones(400, bool), np.ones(400, bool)
    first[:13], second[6:26] = False, False
    paired = compare_rows(first, second)
    assert describe_comparison(paired, "LoRA", "the linear probe") == (
        "LoRA against the linear probe: no significant difference (+1.8 points, 95% interval -0.4 "
        "to 4.2, p = 0.17); "
        "minimum detectable difference with 400 rows: 3.1 points."
    )
    worse = compare_rows(second, np.ones(400, bool))
    verdict = describe_comparison(worse, "LoRA", "the linear probe")
    assert verdict.startswith("LoRA is worse than the linear probe by 5.0 points, 95% interval 3.")


def test_a_metric_that_is_not_a_proportion():
    """Perplexity: lower is better, differences in its own unit, and a permutation test."""
    random = np.random.default_rng(5)
    tokens = random.integers(5, 40, 300).astype(float)
    worse = np.stack([tokens * random.normal(4.0, 0.3, 300), tokens], axis=1)
    better = worse - np.stack([0.2 * tokens, np.zeros(300)], axis=1)
    paired = compare_counts(better, worse, PERPLEXITY)
    first, second = (np.exp(c[:, 0].sum() / tokens.sum()) for c in (better, worse))
    assert paired.difference == pytest.approx(first - second)
    low, high = paired.interval
    assert low < paired.difference < high < 0
    assert (paired.first_only, paired.second_only, paired.p_value) == (300, 0, 1e-4)

    def verdict(paired):
        return describe_comparison(paired, "LoRA", "the base model", metric=PERPLEXITY)

    assert verdict(paired).startswith(
        f"LoRA is better than the base model by {second - first:.3g} in perplexity"
    )
    assert verdict(compare_counts(worse, better, PERPLEXITY)).startswith(
        "LoRA is worse than the base model by"
    )
    assert verdict(compare_counts(worse, worse, PERPLEXITY)).startswith(
        "LoRA and the base model score the same on each row: no significant difference; "
    )


@pytest.mark.parametrize("differing", [0, 1, 11, 18, 19, 20])
def test_accuracies_have_an_interval_however_few_rows_differ(differing):
    first, second = np.ones(400, bool), np.ones(400, bool)
    second[:differing] = False
    paired = compare_rows(first, second)
    low, high = paired.interval
    assert low <= differing / 400 <= high
    assert paired.interval_reason is None
    assert "95% interval" in describe_comparison(paired, "LoRA", "the base model")


def test_few_rows_that_differ_in_another_metric_give_a_reason():
    random = np.random.default_rng(6)
    one = random.integers(0, 4, (200, 3)).astype(float)
    other = one.copy()
    other[:19, 0] += 1
    paired = compare_counts(one, other, ENTITY_F1)
    reason = "no interval: 19 rows of 200 differ, expected at least 20 for a bootstrap"
    assert (paired.interval, paired.interval_reason) == (None, reason)
    assert reason in describe_comparison(paired, "LoRA", "the base model", metric=ENTITY_F1)
    other[:20, 0] += 1
    paired = compare_counts(one, other, ENTITY_F1)
    assert paired.interval is not None
    assert paired.interval_reason is None
