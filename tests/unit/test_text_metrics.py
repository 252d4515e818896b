"""Texts against references: the libraries' own figures, from sums over rows."""

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu

from lora_tune.errors import DataError
from lora_tune.rows import Rows, Split
from lora_tune.text_metrics import TEXT_MEASURES, TEXT_METRICS, check_references, count_texts

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
    counts = count_texts(texts, references)
    return {name: float(TEXT_MEASURES[name].of(counts[name].sum(axis=0))) for name in TEXT_METRICS}


def test_bleu_is_sacrebleus_of_the_whole():
    assert scores(TEXTS, REFERENCES)["bleu"] == pytest.approx(
        corpus_bleu(TEXTS, [REFERENCES]).score / 100, abs=1e-12
    )


def test_rouge_is_the_mean_of_the_librarys():
    names = ["rouge1", "rouge2", "rougeL"]
    library = [
        RougeScorer(names).score(reference, text)
        for text, reference in zip(TEXTS, REFERENCES, strict=True)
    ]
    for name in names:
        expected = np.mean([row[name].fmeasure for row in library])
        assert scores(TEXTS, REFERENCES)[name] == pytest.approx(expected, abs=1e-12)


def test_worked_out_by_hand():
    # 2 of 3 words written are among the 4 expected: F1 = 2 * 2 / (3 + 4); no pair of words is.
    found = scores(["red big fox"], ["a fox is red"])
    assert found["rouge1"] == pytest.approx(4 / 7)
    assert found["rouge2"] == found["exact_match"] == 0
    assert found["rougeL"] == pytest.approx(2 / 7)  # red ... fox stand the other way round
    assert scores(["Yes. "], [" Yes."])["exact_match"] == 1


def test_sums_over_drawn_rows_are_the_librarys_figures_of_those_rows():
    counts = count_texts(TEXTS, REFERENCES)["bleu"]
    drawn = [0, 0, 3]
    again = corpus_bleu([TEXTS[i] for i in drawn], [[REFERENCES[i] for i in drawn]])
    sums = np.stack([counts[drawn].sum(axis=0), counts.sum(axis=0)])
    assert TEXT_MEASURES["bleu"].of(sums)[0] == pytest.approx(again.score / 100, abs=1e-12)


def test_rouge_is_refused_where_it_reads_nothing():
    texts = ["Это хороший фильм.", "Плохо.", "OK"]
    rows = Rows("test", "", [0, 1, 2], texts, texts, np.zeros(3), texts, [])
    split = Split(rows, encoded=None, token_counts=np.ones(3))
    with pytest.raises(DataError, match=r"2 of 3 completions of test hold none"):
        check_references("rougeL", split)
    check_references("bleu", split)
    check_references(None, split)
