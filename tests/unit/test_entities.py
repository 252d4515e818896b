"""Entities are read from tags as seqeval reads them, and told with their places in the text."""

import numpy as np
import pytest
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities

from lora_tune.entities import cut_words, describe_tags, find_entities, join_words, words_of
from lora_tune.evaluation import judge_answers
from lora_tune.rows import Rows, Split
from lora_tune.tasks import find_task

NAMES = ["O", "B-person", "I-person", "B-place", "I-place"]
TASK = find_task("token_classification")


def sentences(seed, rows=40):
    random = np.random.default_rng(seed)
    return [random.integers(0, len(NAMES), random.integers(1, 15)) for _ in range(rows)]


@pytest.mark.parametrize("seed", range(10))
def test_entities_are_seqevals(seed):
    for numbers in sentences(seed):
        tags = [NAMES[number] for number in numbers]
        expected = [(kind, start, end + 1) for kind, start, end in get_entities(tags)]
        assert find_entities(tags) == expected


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O O", []),
        ("B-a I-a B-a", [("a", 0, 2), ("a", 2, 3)]),
        ("I-a I-a", [("a", 0, 2)]),
        ("B-a I-b", [("a", 0, 1), ("b", 1, 2)]),
        ("B-a O I-a", [("a", 0, 1), ("a", 2, 3)]),
    ],
)
def test_entities_by_hand(tags, found):
    assert find_entities(tags.split()) == found


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_seqevals(seed):
    true = sentences(seed)
    random = np.random.default_rng(seed + 100)
    answers = [
        random.normal(size=(len(row), len(NAMES))) + 2 * np.eye(len(NAMES))[row] for row in true
    ]
    labels = np.empty(len(true), dtype=object)
    labels[:] = true
    inputs = [join_words(["x"] * len(row)) for row in true]
    texts = [given["text"] for given in inputs]
    rows = Rows("test", "here", list(range(len(true))), texts, inputs, labels, texts, NAMES)
    found = judge_answers(answers, Split(rows, None, np.ones(len(true))), TASK)
    own = [[NAMES[n] for n in row] for row in true]
    told = [[NAMES[n] for n in row.argmax(axis=1)] for row in answers]
    assert found.metrics["entity_f1"] == pytest.approx(f1_score(own, told), abs=1e-9)
    assert found.metrics["precision"] == pytest.approx(precision_score(own, told), abs=1e-9)
    assert found.metrics["recall"] == pytest.approx(recall_score(own, told), abs=1e-9)
    # What each row adds gives the same figure, so that rows can be drawn anew.
    sums = found.counts.sum(axis=0)
    assert TASK.measure.of(sums) == pytest.approx(f1_score(own, told), abs=1e-9)
    for part in TASK.break_down(answers, Split(rows, None, np.ones(len(true)))):
        only = [[tag if tag[2:] == part["type"] else "O" for tag in row] for row in own]
        said = [[tag if tag[2:] == part["type"] else "O" for tag in row] for row in told]
        assert part["f1"] == pytest.approx(f1_score(only, said), abs=1e-9)


def test_words_that_were_cut_off_are_missed():
    labels = np.empty(1, dtype=object)
    labels[0] = np.array([1, 2, 0, 3])
    given = join_words(["a", "b", "c", "d"])
    rows = Rows("test", "here", [0], [given["text"]], [given], labels, [""], NAMES)
    answers = [4.0 * np.eye(5)[[1, 2]]]
    found = judge_answers(answers, Split(rows, None, np.ones(1)), TASK)
    assert found.counts.tolist() == [[1, 0, 1]]


def test_spans_name_their_characters():
    text = "Ann-Marie saw @bob's dog, in St. Moritz."
    given = cut_words(text)
    assert words_of(given) == [
        "Ann-Marie", "saw", "@bob's", "dog", ",", "in", "St", ".", "Moritz", ".",
    ]  # fmt: skip
    tags = ["B-person", "O", "O", "O", "O", "O", "B-place", "I-place", "I-place"]
    found = describe_tags(given, tags)
    assert found.label == "Ann-Marie: person; St. Moritz: place"
    for span in found.spans:
        assert text[span.start : span.end] == span.text
    assert describe_tags(given, []).label == "none"
