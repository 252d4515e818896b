"""Texts as words with character offsets."""

import pytest

from lora_tune.data.words import join_words, mask_words, split_words, words_of


def test_joined_words_have_offsets_in_the_text():
    given = join_words(["Ann", "likes", "films"])
    assert given == {"text": "Ann likes films", "words": [[0, 3], [4, 9], [10, 15]]}
    assert words_of(given) == ["Ann", "likes", "films"]


def test_masked_words_keep_all_offsets():
    given = join_words(["Ann", "likes", "films"])
    masked = mask_words(given, [0, 2])
    assert masked == {"text": "... likes .....", "words": given["words"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don\u2019t stop!", ["Don\u2019t", "stop", "!"]),
        ("#one @two 3.14", ["#one", "@two", "3.14"]),
        ("\u0646\u0639\u0645 e.g. (x)", ["\u0646\u0639\u0645", "e.g", ".", "(", "x", ")"]),
        (
            "re:C++ and C#, U.S. 1,000 e-mail",
            ["re", ":", "C++", "and", "C#", ",", "U.S", ".", "1,000", "e-mail"],
        ),
        ("to a.b@c.com.", ["to", "a.b@c.com", "."]),
        ("हिन्दी में है।", ["हिन्दी", "में", "है", "।"]),
        ("العربيّة، نعم", ["العربيّة", "،", "نعم"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
        ("我用Python，好！", ["我", "用", "Python", "，", "好", "！"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
        ("hi.👩\u200d👧👍🏽🇨🇭❤\ufe0f", ["hi", ".", "👩\u200d👧", "👍🏽", "🇨🇭", "❤\ufe0f"]),
        ("  ", []),
    ],
)
def test_words_and_punctuation_are_split(text, words):
    assert words_of(split_words(text)) == words
