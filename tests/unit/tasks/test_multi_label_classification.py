"""Multi-label classification: metrics against scikit-learn, and lists of labels as people write."""

import datasets
import numpy as np
import pytest
import torch

from lora_tune.config.data import DataConfig
from lora_tune.data.columns import ROW
from lora_tune.errors import DataError
from lora_tune.tasks import make_task
from tests.unit.rows import Table, evaluate, make_split

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
        (7, "found 7, expected a list of labels"),
    ],
)
def test_invalid_labels_are_reported(label, words):
    raw = [{"text": "x", "label": ["food", "staff"], ROW: 0}, {"text": "y", "label": label, ROW: 1}]
    with pytest.raises(DataError) as caught:
        TASK.read(Table(raw), DataConfig(), ["food", "staff"], where="data.test")
    assert words in str(caught.value)


def test_labels_in_a_cell_of_a_csv_file():
    raw = [{"text": "x", "label": "food; staff", ROW: 0}, {"text": "y", "label": None, ROW: 1}]
    _, _, present, texts = TASK.read(Table(raw), DataConfig(), ["food", "staff"], where="")
    assert present.tolist() == [[1, 1], [0, 0]]
    assert texts == ["food; staff", "none"]


def test_multi_hot_rows_and_lists_of_label_ids():
    def read(*labels):
        raw = Table({"text": "x", "label": label, ROW: row} for row, label in enumerate(labels))
        return TASK.read(raw, DataConfig(), ["a", "b", "c"], where="here")[2].tolist()

    assert read([0, 0, 1], [1, 0, 1]) == [[0, 0, 1], [1, 0, 1]]  # every row is as long as labels
    assert read([2], [0, 2]) == [[0, 0, 1], [1, 0, 1]]
    with pytest.raises(DataError, match="none twice; or 0 or 1 for each label in every row"):
        read([0, 0, 1], [1])


def test_class_label_names_of_a_column_apply_in_any_order():
    listed = datasets.Sequence(datasets.ClassLabel(names=["O", "B-x", "B-y"]))
    rows = datasets.Dataset.from_dict({"text": ["u"], "label": [[1, 0]], ROW: [0]})
    rows = rows.cast_column("label", listed)
    config = DataConfig(labels=["O", "B-y", "B-x"])
    assert TASK.read(rows, config, config.labels, where="")[2].tolist() == [[1, 0, 1]]
