"""Text metrics from sums over rows equal those of the libraries."""

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu

from lora_tune.data.rows import Rows, Split
from lora_tune.errors import DataError
from lora_tune.metrics.text import (
    ROUGE,
    TEXT_METRICS,
    check_text_metrics,
    score_answer,
    text_metric_counts,
    undefined_metrics,
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
        name: float(TEXT_METRICS[name].from_sums(rows.sum(axis=0))) for name, rows in counts.items()
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


def split_of(references):
    rows = Rows("test", "", [], references, references, np.zeros(0), references, [])
    return Split(rows, encoded=None, token_counts=np.ones(0))


def test_rouge_of_ascii_texts_is_that_of_rouge_score():
    random = np.random.default_rng(0)
    characters = [*map(chr, range(128)), *"aabbcc  ++##::''..__--"]
    library = RougeScorer(ROUGE)
    for _ in range(300):
        reference, text = ("".join(random.choice(characters, 60)) for _ in range(2))
        reference += "a"  # at least one word, so that ROUGE is defined
        expected = library.score(reference, text)
        counts = text_metric_counts([text], [reference])
        for name in ROUGE:
            assert counts[name].tolist() == [[expected[name].fmeasure, 1]]


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("\u00e9t\u00e9", "ete"),
        ("हिन्दी में लिखा है।", "हन्द मं"),  # other vowel signs
        ("我喜欢这部电影。", "天气很好。"),
        ("カタカナと漢字", "ひらがな"),
        ("สวัสดี", "ไปเที่ยว"),
        ("العربيّة مُدَرِّس", "العربية مدرس"),
        ("👩\u200d👧 👍🏽", "👩 👧 👍"),
    ],
)
def test_rouge_of_other_scripts(text, other):
    same, different = (text_metric_counts([own], [text]) for own in (text, other))
    assert same["rouge1"][0, 0] == same["rougeL"][0, 0] == 1
    assert different["rouge1"][0, 0] == different["rougeL"][0, 0] == 0


def test_rouge_counts_characters_of_scripts_without_spaces():
    assert scores(["我喜欢电影"], ["我喜欢这部电影。"])["rouge1"] == pytest.approx(5 / 6)
    assert scores(["e\u0301te\u0301"], ["\u00e9t\u00e9"])["rouge1"] == 1
    assert scores(["un caf\u00e9"], ["un cafard"])["rouge1"] == 1 / 2  # the accent is no gap


@pytest.mark.parametrize(
    "reference",
    ["我喜欢这部电影。", "映画が好きです。", "ฉันชอบหนังเรื่องนี้", "ខ្ញុំចូលចិត្ត", "使用 Python 编程很有趣"],
)
def test_bleu_is_not_defined_for_scripts_without_spaces(reference):
    references = [reference, *["It rained."] * 8]
    assert set(undefined_metrics(references)) == {"bleu"}
    assert set(scores(references, references)) == {"exact_match", "rouge1", "rouge2", "rougeL"}
    why = "1 of 9 completions are in a script without spaces between words"
    with pytest.raises(DataError, match=f"bleu is not .* of test: {why}.*; use rougeL or exact"):
        check_text_metrics("bleu", split_of(references))
    (warning,) = check_text_metrics("rougeL", split_of(references))
    assert warning.startswith(f"bleu not computed: {why}")
    assert check_text_metrics(None, split_of(references)) == []


def test_text_metrics_of_scripts_with_spaces_are_defined():
    texts = ["Это хороший фильм.", "यह एक अच्छी फ़िल्म है।", "هذا فيلم جيد.", "좋은 영화입니다.", "👍"]
    assert undefined_metrics([*texts, "我 says he"]) == {}  # most of its words have spaces
    assert check_text_metrics("bleu", split_of(texts)) == []


def test_rouge_is_not_defined_without_words():
    references = ["?!", "+", "yes"]
    why = "2 of 3 completions have no letter, digit or emoji"
    with pytest.raises(DataError, match=f"rouge2 is not .*: {why}; use exact_match$"):
        check_text_metrics("rouge2", split_of(references))
    assert check_text_metrics("bleu", split_of(references)) == [
        f"rouge1, rouge2, rougeL not computed: {why}."
    ]


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
        ("东京都", ["东京"], 4 / 5, 0),
        ("《东京》", ["东京。"], 1, 1),
        ("กรุงเทพ", ["กรุง"], 2 / 3, 0),  # characters with their marks: 3 of 6
        ("यह हिन्दी है ।", ["हिन्दी है।"], 4 / 5, 0),
        ("e\u0301te\u0301", ["\u00c9t\u00e9"], 1, 1),
        ("10,000", ["10000"], 1, 1),
        ("twenty-one", ["twentyone"], 1, 1),
        ("the", [""], 1, 1),  # as SQuAD 2.0 has it: nothing is left of it
    ],
)
def test_answers_are_scored_as_squad_scores_them(answer, references, f1, exact):
    assert score_answer(answer, references) == (pytest.approx(f1), exact)
