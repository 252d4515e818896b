"""The embedded reviews are balanced, distinct, and do not leak from train to test."""

import re
from collections import Counter

import pytest

from tests.tiny import reviews


def words(text):
    return re.sub(r"[^a-z0-9 ]", "", text.lower()).split()


def shingles(text):
    found = words(text)
    return {tuple(found[i : i + 3]) for i in range(len(found) - 2)}


@pytest.mark.parametrize(("split", "rows"), [("train", 400), ("test", 200)])
def test_enough_and_balanced(split, rows):
    _, labels = reviews(split)
    counts = Counter(labels)
    assert set(counts) == {"negative", "positive"}
    assert counts["negative"] == counts["positive"] >= rows / 2


def test_no_duplicate_after_normalization():
    texts = [" ".join(words(text)) for split in ("train", "test") for text in reviews(split)[0]]
    assert len(set(texts)) == len(texts)


def test_no_near_duplicate_across_the_splits():
    train = [shingles(text) for text in reviews("train")[0]]
    for text in reviews("test")[0]:
        mine = shingles(text)
        nearest = max(len(mine & other) / len(mine | other) for other in train)
        assert nearest < 0.2, text


def test_openings_vary():
    openings = Counter(
        tuple(words(text)[:4]) for split in ("train", "test") for text in reviews(split)[0]
    )
    assert max(openings.values()) <= openings.total() / 200, openings.most_common(3)


def test_lengths_vary():
    lengths = sorted(len(words(text)) for text in reviews("train")[0])
    assert lengths[0] <= 10
    assert lengths[-1] >= 60
