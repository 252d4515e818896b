"""Rows of a file that a user gives to `evaluate`, which may be one that `predict` wrote."""

import pytest

from lora_tune.config.data import DataConfig
from lora_tune.data.given_rows import load_file
from lora_tune.tasks import make_task
from tests.tiny import make_tokenizer

PREDICTIONS = "text,sentiment,label,p_bad,p_good\nfine,good,bad,0.6,0.4\ndull,bad,bad,0.9,0.1\n"


@pytest.mark.parametrize(
    ("column", "labels", "is_noted"), [("sentiment", [1, 0], False), ("label", [0, 0], True)]
)
def test_labels_of_a_file_of_predictions(tmp_path, column, labels, is_noted):
    """Its column of given labels holds them as ever; that of predicted labels is noted."""
    path = tmp_path / "predictions.csv"
    path.write_text(PREDICTIONS)
    split, notes = load_file(
        path,
        DataConfig(source="rows.csv", text="text", label=column),
        make_task("sequence_classification"),
        labels=["bad", "good"],
        tokenizer=make_tokenizer("bert"),
        predicted="label",
    )
    assert split.rows.labels.tolist() == labels
    assert any("its labels are predictions" in note for note in notes) == is_noted
