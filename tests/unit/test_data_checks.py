"""Each fault of the rows is found, and sound rows raise none."""

import numpy as np

from lora_tune.data_checks import (
    check_answers,
    check_balance,
    check_copies,
    check_cuts,
    is_selected_on_test,
    normalise,
)


def splits(train=("a film", "b film"), validation=("c film", "d film"), test=("e film", "f film")):
    return {"train": train, "validation": validation, "test": test}


def test_copies_are_counted_exactly_and_normalised():
    (line,) = check_copies(splits(test=("a film", "B<br />film!", "g film")))
    assert line.startswith("1 of 3 test texts also stand in train or validation, 2 when case")
    (line,) = check_copies(splits(validation=("a film", "d film")))
    assert line.startswith("1 of 2 validation texts also stand in train:")
    assert not list(check_copies(splits()))


def test_normalised_texts_keep_their_words():
    assert normalise("  It&#39;s <br/>GREAT... 10/10!") == "it s great 10 10"
    assert normalise("Straße, été") == normalise("STRASSE été")


def test_a_validation_set_that_is_the_test_set():
    assert is_selected_on_test(splits(validation=("E film.", "f film")))
    assert not is_selected_on_test(splits())
    many = [f"film {i}" for i in range(700)]
    thanks = splits(
        validation=(*many[:90], *["thanks"] * 10), test=(*many[90:], *["Thanks!"] * 300)
    )
    assert not is_selected_on_test(thanks)
    signs = splits(validation=("\U0001f600", "!!!", "ok"), test=("\U0001f389", "???", "film"))
    assert not is_selected_on_test(signs)
    assert not list(check_copies(signs))


def test_uneven_classes():
    (line,) = check_balance(np.array([0] * 8 + [1] * 2), ["bad", "fine"])
    assert line.startswith("Classes are uneven: 80% of train is bad, 20.0% fine.")
    assert not list(check_balance(np.array([0] * 6 + [1] * 4), ["bad", "fine"]))


def test_cut_texts():
    counts = np.array([10, 10, 300, 400])
    (line,) = check_cuts(counts, 256, "right")
    assert line.startswith("50% of the test texts are longer than 256 tokens")
    assert not list(check_cuts(counts, 512, "right"))


def test_answers_in_the_texts():
    texts = [f"Verdict: {'Fine' if i % 2 else 'poor'}. Seen {i}." for i in range(40)]
    numbers = np.arange(40) % 2
    lines = list(check_answers(texts, numbers, ["bad", "fine"]))
    assert lines == [
        "Labels stand in training texts by name and may give the answer away: fine in 100.0% of "
        "its own and 0.0% of others."
    ]
    assert not list(check_answers(texts[:8], numbers[:8], ["bad", "fine"]))  # too few rows to tell
    assert not list(check_answers(["finely made"] * 4, np.array([0, 1, 0, 1]), ["bad", "fine"]))
