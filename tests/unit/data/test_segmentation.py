"""Words and terms of any script."""

import pytest

from lora_tune.data.segmentation import find_alphanumeric_words, find_terms, fold


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("I can’t; re:U.S. 3.14", ["i", "can't", "re", "u.s", "3.14"]),
        ("C++, C# and c; C++17", ["c++", "c#", "and", "c", "c++", "17"]),
        ("हिन्दी में e\u0301te\u0301", ["हिन्दी", "में", "\u00e9t\u00e9"]),
        ("سلام، می\u200cخواهم", ["سلام", "می\u200cخواهم"]),
        ("ดีแย่", ["ดี", "แ", "ย่"]),
        ("コーヒーと漢字 한국어", ["コーヒー", "と", "漢", "字", "한국어"]),
        ("❤\ufe0f❤👩\u200d👧!🇨🇭🇩🇪", ["❤", "❤", "👩\u200d👧", "🇨🇭", "🇩🇪"]),
        ("?! - \u0301", []),
    ],
)
def test_terms(text, terms):
    assert find_terms(text) == terms


def test_alphanumeric_words_have_no_signs_inside():
    words = ["don", "t", "a", "b", "c", "हिन्दी", "👍🏽"]
    assert find_alphanumeric_words("don't a_b C++ हिन्दी👍🏽") == words


def test_folding_twice_changes_nothing():
    for text in ("ﬁ Straße İ ǰ ΐ ᾳ", "ＡＢＣ ½ ™ ❤\ufe0f", "हिन्दी"):
        assert fold(fold(text)) == fold(text)
