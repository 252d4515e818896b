"""Each problem of the rows is found, and good rows raise no warning."""

import numpy as np
import pytest

from lora_tune.data.quality_checks import (
    check_balance,
    check_truncation,
    find_absent_labels,
    find_duplicates,
    find_label_leaks,
    normalize,
    selects_on_test,
)


def splits(train=("a film", "b film"), validation=("c film", "d film"), test=("e film", "f film")):
    return {"train": train, "validation": validation, "test": test}


def test_duplicates_are_counted_exactly_and_normalized():
    (line,) = find_duplicates(splits(test=("a film", "B<br />film!", "g film")))
    assert line.startswith("1 of 3 test texts also occur in train or validation, 2 when case")
    (line,) = find_duplicates(splits(validation=("a film", "d film")))
    assert line.startswith("1 of 2 validation texts also occur in train;")
    assert not list(find_duplicates(splits()))


def test_normalized_texts_keep_their_words():
    assert normalize("  It&#39;s <br/>GREAT... 10/10!") == "it s great 10 10"
    assert normalize("Straße, été") == normalize("STRASSE été")


@pytest.mark.parametrize(
    "texts",
    [
        ("C", "C++", "C#"),
        ("50", "50%", "5 0"),
        ("5", "-5", "+5", "$5", "€5"),
        ("good 😀", "good 😡", "good", "good 👍", "good 👍🏽"),
        ("हिन्दी", "हन्द"),
        ("resume", "résumé"),
        ("a < b, c > d", "a < x, c > d"),
    ],
)
def test_normalized_texts_keep_what_carries_meaning(texts):
    assert len(set(map(normalize, texts))) == len(texts)


def test_normalization_ignores_how_a_text_is_written():
    for text, other in [
        ("e\u0301te\u0301", "\u00c9t\u00e9!"),
        ("“don’t”", "don't"),
        ("我喜欢。", "我喜欢"),
        ("well-known (2019-2020)", "Well known 2019\u20132020"),
        ("❤\ufe0f a\u200bb \ufeffc", "❤ a b c"),
        ("ＡＢＣ", "abc"),
    ]:
        assert normalize(text) == normalize(other)


def test_texts_are_only_iterated():
    class Column:
        def __init__(self, texts):
            self.texts = texts

        def __iter__(self):
            return iter(self.texts)

    found = {name: Column(texts) for name, texts in splits(test=("A film!", "g")).items()}
    assert len(list(find_duplicates(found))) == 1
    assert not selects_on_test(found)
    texts = Column(["good stuff", "poor stuff"] * 5)
    assert list(find_label_leaks(texts, np.arange(10) % 2, ["good", "bad"]))


def test_validation_rows_that_are_test_rows_are_found():
    assert selects_on_test(splits(validation=("E film.", "f film")))
    assert not selects_on_test(splits())
    many = [f"film {i}" for i in range(700)]
    thanks = splits(
        validation=(*many[:90], *["thanks"] * 10), test=(*many[90:], *["Thanks!"] * 300)
    )
    assert not selects_on_test(thanks)
    signs = splits(validation=("\U0001f600", "!!!", "ok"), test=("\U0001f389", "???", "film"))
    assert not selects_on_test(signs)
    assert not list(find_duplicates(signs))


def test_imbalanced_classes():
    (line,) = check_balance(np.array([0] * 8 + [1] * 2), ["bad", "fine"])
    assert line.startswith("Classes are imbalanced: 80% of the training rows are bad, 20.0% fine;")
    assert not list(check_balance(np.array([0] * 6 + [1] * 4), ["bad", "fine"]))


def test_labels_without_training_rows():
    assert not list(find_absent_labels({"a": 1, "b": 2}))
    (warning,) = find_absent_labels({"a": 1, "b": 0, "c": 0})
    assert warning.startswith("No training row has the labels b, c: they are not learned.")
    (warning,) = find_absent_labels(dict.fromkeys("abcde", 0))
    assert "a, b, c and 2 more" in warning


def test_truncated_texts():
    counts = np.array([10, 10, 300, 400])
    (line,) = check_truncation(counts, 256, "right")
    assert line.startswith("50% of the test texts are longer than 256 tokens")
    assert not list(check_truncation(counts, 512, "right"))


def test_labels_that_the_texts_give_away():
    texts = [f"Verdict: {'Fine' if i % 2 else 'poor'}. Seen {i}." for i in range(40)]
    numbers = np.arange(40) % 2
    lines = list(find_label_leaks(texts, numbers, ["bad", "fine"]))
    assert lines == [
        "Label names occur in training texts and may leak the label: fine in 100.0% of "
        "its rows and 0.0% of other rows."
    ]
    # Too few rows.
    assert not list(find_label_leaks(texts[:8], numbers[:8], ["bad", "fine"]))
    assert not list(find_label_leaks(["finely made"] * 4, np.array([0, 1, 0, 1]), ["bad", "fine"]))


def test_label_names_of_other_scripts_are_found():
    numbers = np.arange(40) % 2
    for own, other, labels in [
        ("我喜欢体育新闻。", "他看财经新闻", ["体育", "音乐"]),
        ("हिन्दी में", "हन्द में", ["हिन्दी", "है"]),
        ("use C++ here", "use C# here", ["c++", "c"]),
        ("no not spam", "no", ["not_spam", "__"]),
    ]:
        (line,) = find_label_leaks([other if n else own for n in numbers], numbers, labels)
        assert f"{labels[0]} in 100.0% of its rows and 0.0% of other rows." in line
        assert labels[1] + " in" not in line
