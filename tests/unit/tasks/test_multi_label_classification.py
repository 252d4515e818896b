"""Multi-label classification: metrics against scikit-learn, and lists of labels as people write."""

import datasets
import numpy as np
import pytest
import torch

from lora_tune.config.data import DataConfig
from lora_tune.errors import DataError
from lora_tune.tasks import make_task
from tests.unit.rows import evaluate, make_split, make_table, make_typed_table, read

TASK = make_task("multi_label_classification")
RANDOM = np.random.default_rng(3)


@pytest.mark.parametrize("threshold", [None, 0.2, 0.8])
def test_metrics_are_those_of_scikit_learn(threshold):
    from sklearn.metrics import accuracy_score, f1_score, log_loss

    task, random = make_task("multi_label_classification", threshold=threshold), RANDOM
    true = random.integers(0, 2, (80, 4))
    logits = random.normal(size=(80, 4)) + true
    probabilities = 1 / (1 + np.exp(-logits))
    predicted = probabilities >= (threshold or 0.5)
    found = evaluate(task, logits, true, list("abcd"))
    expected = {
        "micro_f1": f1_score(true, predicted, average="micro"),
        "macro_f1": f1_score(true, predicted, average="macro", zero_division=0),
        "exact": accuracy_score(true, predicted),
        "loss": log_loss(true.ravel(), probabilities.ravel()),
    }
    assert found.metrics == pytest.approx(expected, abs=1e-9)
    assert task.primary_metric.from_sums(found.counts.sum(axis=0)) == pytest.approx(
        expected["micro_f1"], abs=1e-9
    )
    loss = task.loss(torch.tensor(logits), torch.tensor(true), items=true.size, smoothing=0.0)
    assert loss.item() == pytest.approx(expected["loss"], abs=1e-6)
    prediction = task.format(logits[:1], "", list("abcd"))
    assert prediction.labels == [
        name for name, is_predicted in zip("abcd", predicted[0], strict=True) if is_predicted
    ]
    groups = task.metrics_by_group(list(logits[:, None]), make_split(true, list("abcd")))
    assert [group["f1"] for group in groups] == pytest.approx(
        f1_score(true, predicted, average=None, zero_division=0), abs=1e-9
    )


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (["foot"], "'foot' is not among food, staff; did you mean"),
        (7, "'7' is not among food, staff; numbers are IDs, from 0, only if data.labels"),
        ("['food', staff]", "expected a list such as ['a', 'b']"),
        ([["food"]], "expected a list of label names or numbers"),
    ],
)
def test_invalid_labels_are_reported(label, words):
    rows = make_table([{"text": "x", "label": ["food", "staff"]}, {"text": "y", "label": label}])
    with pytest.raises(DataError, match=r"data\.test: row 1 .*column 'label'") as caught:
        read(TASK, rows, DataConfig(), ["food", "staff"])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("both", "none"),
    [
        ("food; staff", "[]"),
        ("food,staff", "[]"),
        ("food|staff", "[]"),
        ("['food', 'staff']", "[]"),
        ('["food", "staff"]', "[]"),
        ("('food', 'staff')", "()"),
        (["food", "staff"], []),
    ],
)
def test_labels_in_a_cell(both, none):
    rows = make_table([{"text": "x", "label": both}, {"text": "y", "label": none}])
    _, _, present, texts = read(TASK, rows, DataConfig(), ["food", "staff"])
    assert present.tolist() == [[1, 1], [0, 0]]
    assert texts == ["food; staff", "none"]


def test_a_label_with_a_comma_in_its_name():
    rows = make_table([{"text": "x", "label": "food, drinks"}, {"text": "y", "label": "staff"}])
    config = DataConfig(labels=["food, drinks", "staff"])
    assert read(TASK, rows, config, config.labels)[2].tolist() == [[1, 0], [0, 1]]


def test_multi_hot_rows_and_lists_of_label_ids():
    def labels_of(*labels, named=("a", "b", "c")):
        rows = make_table([{"text": "x", "label": label} for label in labels])
        config = DataConfig(labels=list(named) if named else None)
        names = config.labels or TASK.labels(config, [rows])
        return read(TASK, rows, config, names)[2].tolist()

    # Every row is as long as labels.
    assert labels_of([0, 0, 1], [1, 0, 1]) == [[0, 0, 1], [1, 0, 1]]
    assert labels_of("[0 0 1]", "[True, False, True]") == [[0, 0, 1], [1, 0, 1]]
    assert labels_of([2], [0, 2]) == labels_of("2", "0,2") == [[0, 0, 1], [1, 0, 1]]
    with pytest.raises(DataError, match="none twice; or 0 or 1 for each label in every row"):
        labels_of([0, 0, 1], [1])
    with pytest.raises(DataError, match=r"name the labels in their order in data\.labels"):
        labels_of([0, 0, 1], [1, 0, 1], named=None)


def test_numbers_without_names_are_names_in_numeric_order():
    rows = make_table([{"text": "x", "label": label} for label in ([10, 2], [2], [1, 10])])
    names = TASK.labels(DataConfig(), [rows])
    assert names == ["1", "2", "10"]
    present = read(TASK, rows, DataConfig(), names)[2]
    assert present.tolist() == [[0, 1, 1], [0, 1, 0], [1, 0, 1]]


def test_class_label_names_of_a_column_apply_in_any_order():
    listed = datasets.Sequence(datasets.ClassLabel(names=["O", "B-x", "B-y"]))
    rows = datasets.Dataset.from_dict({"text": ["u"], "label": [[1, 0]]})
    rows = make_typed_table(rows.cast_column("label", listed))
    config = DataConfig(labels=["O", "B-y", "B-x"])
    assert read(TASK, rows, config, config.labels)[2].tolist() == [[1, 0, 1]]


def test_lists_of_flags_as_floats_and_without_names():
    for one, other in (([0.0, 1.0], [1.0, 0.0]), ("[0. 1.]", "[1. 0.]"), ([0, 1], [1, 0])):
        rows = make_table([{"text": "x", "label": one}, {"text": "y", "label": other}])
        config = DataConfig(labels=["a", "b"])
        assert read(TASK, rows, config, config.labels)[2].tolist() == [[0, 1], [1, 0]]
        with pytest.raises(DataError, match=r"name the labels in their order in data\.labels"):
            TASK.labels(DataConfig(), [rows])


@pytest.mark.parametrize(
    "cell",
    ["array(['a', 'b'], dtype=object)", "frozenset({'a', 'b'})", "['a', 'b'", "'a', 'b'", "{a, b"],
)
def test_what_is_nearly_a_list_is_refused(cell):
    rows = make_table([{"text": "x", "label": "a; b"}, {"text": "y", "label": cell}])
    with pytest.raises(DataError, match=r"row 1 .*expected a list such as"):
        read(TASK, rows, DataConfig(), ["a", "b"])


NAMES = ["dull", "long", "funny"]


def test_the_threshold_with_the_highest_f1_is_chosen():
    true = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
    probabilities = np.where(true, 0.32, 0.22)
    outputs = [np.log(row / (1 - row))[None] for row in probabilities]
    tuned = TASK.tune(outputs, make_split(true, NAMES))
    assert tuned.threshold == pytest.approx(0.3), "of 0.25 and 0.3, the one nearer to 0.5"
    assert not tuned.has_open_threshold
    assert tuned.compute_metrics(outputs, make_split(true, NAMES))["micro_f1"] == 1
    assert TASK.compute_metrics(outputs, make_split(true, NAMES))["micro_f1"] == 0


def test_a_threshold_of_the_recipe_is_not_tuned():
    task = make_task("multi_label_classification", threshold=0.4)
    assert task.tune([np.zeros((1, 3))], make_split(np.ones((1, 3)), NAMES)) is task
