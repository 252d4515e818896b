"""The verdict of a learning curve, by planted curves for which each is right and wrong."""

from types import SimpleNamespace

import numpy as np
import pytest

from lora_tune.commands.curve import describe_curve

TEST_ROWS = 400
VERDICTS = {
    "rises": "More rows are likely to improve LoRA further.",
    "levels": "More rows improved LoRA, but from ",
    "none": "No clear trend: the interval includes 0. ",
    "falls": "LoRA gets worse with more rows: ",
}


def make_run(share, seed):
    """A run whose LoRA has this accuracy; its baseline is correct on 60 % of the same rows."""
    ease = np.random.default_rng(0).permutation(TEST_ROWS) / TEST_ROWS
    noise = np.random.default_rng(seed).random(TEST_ROWS)
    own = np.where(noise < 0.1, np.random.default_rng(seed).permutation(ease), ease)
    correct = np.zeros(TEST_ROWS)
    correct[np.argsort(own)[: round(share * TEST_ROWS)]] = 1
    counts = {"lora": correct, "tfidf": (ease < 0.6).astype(float)}
    comparison = {
        "task": "sequence_classification",
        "metric": "accuracy",
        "best_baseline": "tfidf",
        "test_rows": TEST_ROWS,
        "seeds": [],
    }
    return SimpleNamespace(
        comparison=comparison,
        counts=lambda system: np.stack([counts[system], np.ones(TEST_ROWS)], axis=1),
    )


def describe(scores):
    rows = [50 * 2**point for point in range(len(scores))]
    return describe_curve(rows, [make_run(score, seed) for seed, score in enumerate(scores)])


@pytest.mark.parametrize(
    ("scores", "right"),
    [
        ([0.867, 0.776, 0.857], "none"),  # down and up again
        ([0.76, 0.86, 0.78, 0.86], "none"),  # the ends alone would show a rise
        ([0.70, 0.76, 0.82, 0.88], "rises"),
        ([0.70, 0.77, 0.81, 0.88, 0.92], "rises"),
        ([0.60, 0.75], "rises"),
        ([0.70, 0.78, 0.84, 0.85, 0.85], "levels"),
        ([0.85, 0.855, 0.85, 0.86], "none"),
        ([0.85, 0.86], "none"),
        ([0.90, 0.84, 0.78, 0.72], "falls"),
    ],
)
def test_verdicts(scores, right):
    verdict = describe(scores)
    for name, words in VERDICTS.items():
        assert (words in verdict) == (name == right), (name, verdict)


def test_what_a_verdict_says():
    assert describe([0.867, 0.776, 0.857]).startswith(
        "From 50 to 200 rows, 3 points on the same 400 test rows, accuracy per doubling of the "
        "rows: LoRA -0.5 points (95% interval "
    )
    assert ", the TF-IDF baseline +0.0 points (95% interval 0.0 to 0.0); " in describe([0.8, 0.8])
    assert "or more points (--rows) would tell." in describe([0.8, 0.8])
    assert "from 200 rows on no longer clearly: +0." in describe([0.70, 0.78, 0.84, 0.85, 0.85])
    assert describe([0.8]).startswith("One point, at 50 rows; at least two are needed")
