"""Text metrics from sums over rows equal those of the libraries."""

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu

from lora_tune.data.rows import Rows, Split
from lora_tune.errors import DataError
from lora_tune.metrics.text import (
    TEXT_METRIC_NAMES,
    TEXT_METRICS,
    check_rouge_references,
    score_answer,
    text_metric_counts,
)

TEXTS = [
    "The cat sat on the mat near the door.",
    "A dog barked.",
    "",
    "It rained all day, and nobody came to the fair.",
]
REFERENCES = [
    "The cat sat on the mat.",
    "The dog barked loudly at the cat.",
    "Nothing.",
    "It rained all day, and nobody came to the fair. ",
]


def scores(texts, references):
    counts = text_metric_counts(texts, references)
    return {
        name: float(TEXT_METRICS[name].from_sums(counts[name].sum(axis=0)))
        for name in TEXT_METRIC_NAMES
    }


def test_bleu_is_the_corpus_bleu_of_sacrebleu():
    assert scores(TEXTS, REFERENCES)["bleu"] == pytest.approx(
        corpus_bleu(TEXTS, [REFERENCES]).score / 100, abs=1e-12
    )


def test_rouge_is_the_mean_of_rouge_score():
    names = ["rouge1", "rouge2", "rougeL"]
    library = [
        RougeScorer(names).score(reference, text)
        for text, reference in zip(TEXTS, REFERENCES, strict=True)
    ]
    for name in names:
        expected = np.mean([row[name].fmeasure for row in library])
        assert scores(TEXTS, REFERENCES)[name] == pytest.approx(expected, abs=1e-12)


def test_a_case_by_hand():
    # 2 of the 3 words are among the 4 of the reference: F1 = 2 * 2 / (3 + 4); no bigram is.
    found = scores(["red big fox"], ["a fox is red"])
    assert found["rouge1"] == pytest.approx(4 / 7)
    assert found["rouge2"] == found["exact_match"] == 0
    assert found["rougeL"] == pytest.approx(2 / 7)  # red and fox are in the other order
    assert scores(["Yes. "], [" Yes."])["exact_match"] == 1


def test_sums_over_resampled_rows_give_the_bleu_of_those_rows():
    counts = text_metric_counts(TEXTS, REFERENCES)["bleu"]
    drawn = [0, 0, 3]
    again = corpus_bleu([TEXTS[i] for i in drawn], [[REFERENCES[i] for i in drawn]])
    sums = np.stack([counts[drawn].sum(axis=0), counts.sum(axis=0)])
    assert TEXT_METRICS["bleu"].from_sums(sums)[0] == pytest.approx(again.score / 100, abs=1e-12)


def test_rouge_is_refused_for_references_without_latin_letters():
    texts = ["Это хороший фильм.", "Плохо.", "OK"]
    rows = Rows("test", "", [0, 1, 2], texts, texts, np.zeros(3), texts, [])
    split = Split(rows, encoded=None, token_counts=np.ones(3))
    with pytest.raises(DataError, match=r"2 of 3 completions of test have none"):
        check_rouge_references("rougeL", split)
    check_rouge_references("bleu", split)
    check_rouge_references(None, split)


@pytest.mark.parametrize(
    ("answer", "references", "f1", "exact"),
    [
        ("The Eiffel Tower!", ["eiffel tower"], 1, 1),
        ("an  apple, a day", ["apple day"], 1, 1),
        ("theatre", ["re"], 0, 0),  # articles are whole words
        ("in the old town", ["old town of Bern"], 4 / 7, 0),
        ("Bern Bern", ["Bern"], 2 / 3, 0),  # each word counts once
        ("U.S.", ["US"], 1, 1),
        ("Bern", ["Basel", "Bern in Switzerland"], 1 / 2, 0),
        ("Bern", ["Bern in Switzerland", "bern"], 1, 1),
        ("Bern", [""], 0, 0),
        ("", ["Bern"], 0, 0),
        ("", [""], 1, 1),
        ("the", [""], 1, 1),  # as SQuAD 2.0 has it: nothing is left of it
    ],
)
def test_answers_are_scored_as_squad_scores_them(answer, references, f1, exact):
    assert score_answer(answer, references) == (pytest.approx(f1), exact)
