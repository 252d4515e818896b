"""Entities are read from tags as seqeval reads them, and located in the text."""

import pytest
from seqeval.metrics.sequence_labeling import get_entities

from lora_tune.data.words import split_words, words_of
from lora_tune.metrics.entities import entities_from_tags, entities_in_text
from tests.unit.rows import TAGS, random_tags


@pytest.mark.parametrize("seed", range(10))
def test_entities_are_those_of_seqeval(seed):
    for ids in random_tags(seed):
        tags = [TAGS[number] for number in ids]
        expected = [(kind, start, end + 1) for kind, start, end in get_entities(tags)]
        assert entities_from_tags(tags) == expected


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
    assert entities_from_tags(tags.split()) == found


def test_spans_have_character_offsets():
    text = "Ann-Marie saw @bob's dog, in St. Moritz."
    given = split_words(text)
    assert words_of(given) == [
        "Ann-Marie", "saw", "@bob's", "dog", ",", "in", "St", ".", "Moritz", ".",
    ]  # fmt: skip
    tags = ["B-person", "O", "O", "O", "O", "O", "B-place", "I-place", "I-place"]
    found = entities_in_text(given, tags)
    assert found.label == "Ann-Marie: person; St. Moritz: place"
    for span in found.spans:
        assert text[span.start : span.end] == span.text
    assert entities_in_text(given, []).label == "none"
