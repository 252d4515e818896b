"""Each problem of the rows is found, and good rows raise no warning."""

import numpy as np

from lora_tune.data.quality_checks import (
    check_balance,
    check_truncation,
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
