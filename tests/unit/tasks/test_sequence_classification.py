"""Sequence classification: label columns of every type, pairs of texts and class weights."""

import datasets
import numpy as np
import pytest
import torch

from lora_tune.config.data import DataConfig
from lora_tune.data.cell_text import cell_text
from lora_tune.data.splits import load_data
from lora_tune.errors import DataError
from lora_tune.tasks import make_task
from lora_tune.tasks.sequence_classification import label_ids
from tests.tiny import make_tokenizer
from tests.unit.rows import VALIDATION, make_table, make_typed_table, write_splits

TASK = make_task("sequence_classification")


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        ([0, 1, 1], None, ["0", "1"]),
        ([1, 0, 1], ["bad", "fine"], ["bad", "fine"]),
        ([1, 0, 1], ["1", "0"], ["1", "0"]),
        ([1, 2, 3], ["1", "2", "3"], ["1", "2", "3"]),
        ([1, 2, 3], None, ["1", "2", "3"]),
        ([float(i) for i in range(12)], None, [f"{i}.0" for i in range(12)]),
        (["01", "1", "10"], None, ["01", "1", "10"]),
        (["01000", "1000", "01000"], None, ["01000", "1000"]),
        ([-1, 10, 2], None, ["-1", "2", "10"]),
        (["b", "a", "b"], None, ["a", "b"]),
        ([True, False, True], None, ["false", "true"]),
        ([0.0, 1.0, 1.0], ["bad", "fine"], ["bad", "fine"]),
    ],
)
def test_label_columns_of_every_kind(values, names, expected):
    rows = make_table([{"y": value} for value in values])
    config = DataConfig(label="y", labels=names)
    labels = TASK.labels(config, [rows])
    assert labels == expected
    ids = label_ids(rows, config, labels)
    written = [cell_text(value) for value in values]
    assert [labels.index(w) if w in labels else int(float(w)) for w in written] == ids.tolist()


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([0, 1], None),  # the names were not given by the recipe
        (["0", "1.0"], ["bad", "fine"]),  # two notations
        (["00", "01"], ["bad", "fine"]),
        (["bad", "1"], ["bad", "fine"]),  # a name and a number
        ([0, 3], ["1", "3"]),  # the names are numbers
        ([0, 2], ["bad", "fine"]),
    ],
)
def test_numbers_are_ids_only_if_the_recipe_means_them(values, names):
    rows = make_table([{"y": value} for value in values])
    with pytest.raises(DataError, match="labels are not among"):
        label_ids(rows, DataConfig(label="y", labels=names), names or ["bad", "fine"])


def test_class_label_names_of_a_column_apply_in_any_order():
    features = datasets.Features({"y": datasets.ClassLabel(names=["neg", "pos"])})
    rows = make_typed_table(datasets.Dataset.from_dict({"y": [0, 1, 1]}, features=features))
    assert TASK.labels(DataConfig(label="y"), [rows]) == ["neg", "pos"]
    for names, expected in ((["pos", "neg"], [1, 0, 0]), (["bad", "good"], [0, 1, 1])):
        config = DataConfig(label="y", labels=names)
        assert label_ids(rows, config, names).tolist() == expected
    with pytest.raises(DataError, match="1 of 3 labels are not among pos, other"):
        label_ids(rows, DataConfig(label="y", labels=["pos", "other"]), ["pos", "other"])


def test_a_column_without_classes_is_refused():
    rows = make_table([{"y": value} for value in range(2000)])
    with pytest.raises(DataError, match="distinct values"):
        TASK.labels(DataConfig(label="y"), [rows])


def test_pairs_of_texts_are_tokenized_as_pairs(tmp_path):
    rows = [
        {"premise": f"a film {i}", "claim": "it is long " * 20, "label": i % 2} for i in range(12)
    ]
    write_splits(tmp_path, train=rows, test=rows[:4], validation=rows[4:6])
    config = DataConfig(
        source=str(tmp_path),
        validation=VALIDATION,
        text="premise",
        text_pair="claim",
        max_length=16,
        labels=["n", "y"],
    )
    tokenizer = make_tokenizer("bert")
    data = load_data(config, TASK, tokenizer)
    encoded = data.train.encoded[0]
    assert len(encoded["input_ids"]) == 16
    assert tokenizer.decode(encoded["input_ids"]).count("[SEP]") == 2
    whole = tokenizer(rows[0]["premise"], rows[0]["claim"])["input_ids"]
    assert data.train.token_counts[0] == len(whole)
    assert data.train.rows.texts[3] == "a film 3\n" + "it is long " * 20


def test_a_class_weight_of_three_counts_a_row_three_times(tmp_path):
    rows = [{"text": f"text {i}", "label": "rare" if i % 5 == 0 else "often"} for i in range(50)]
    write_splits(tmp_path, train=rows, test=rows[:4], validation=rows[4:9])
    config = {"source": str(tmp_path), "validation": VALIDATION, "labels": ["often", "rare"]}
    tokenizer = make_tokenizer("bert")
    data = load_data(DataConfig(**config, class_weights="balanced"), TASK, tokenizer)
    assert data.class_weights == [0.625, 2.5]  # rows / (classes * the class's rows)
    assert np.mean([data.class_weights[n] for n in data.train.rows.labels]) == pytest.approx(1)
    data = load_data(DataConfig(**config, class_weights=[1, 3]), TASK, tokenizer)
    logits, labels = torch.randn(6, 2), torch.tensor([0, 1, 0, 1, 1, 0])
    often = labels == 1
    weights = torch.tensor(data.class_weights, dtype=torch.float)
    weighted = TASK.loss(logits, labels, items=6, smoothing=0.0, weights=weights)
    repeated = torch.cat([logits, logits[often], logits[often]])
    again = torch.cat([labels, labels[often], labels[often]])
    assert weighted == pytest.approx(TASK.loss(repeated, again, items=6, smoothing=0.0).item())
