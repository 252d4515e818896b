"""Sequence regression: metrics against libraries, and values that are not numbers."""

import numpy as np
import pytest

from lora_tune.config.data import DataConfig
from lora_tune.errors import DataError
from lora_tune.tasks import make_task
from tests.unit.rows import evaluate, make_table, read

TASK = make_task("sequence_regression")


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_those_of_scipy_and_scikit_learn(seed):
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import mean_absolute_error, root_mean_squared_error

    random = np.random.default_rng(seed)
    true = random.normal(size=60)
    predicted = (true + random.normal(size=60)).astype(np.float32)
    found = evaluate(TASK, predicted[:, None], true, ["stars"])
    assert found.metrics["mean_absolute_error"] == pytest.approx(
        mean_absolute_error(true, predicted), abs=1e-9
    )
    assert found.metrics["rmse"] == pytest.approx(
        root_mean_squared_error(true, predicted), abs=1e-9
    )
    assert found.metrics["pearson"] == pytest.approx(pearsonr(true, predicted).statistic, abs=1e-9)
    assert found.metrics["spearman"] == pytest.approx(
        spearmanr(true, predicted).statistic, abs=1e-9
    )
    assert TASK.primary_metric.from_sums(found.counts.sum(axis=0)) == pytest.approx(
        found.metrics["mean_absolute_error"], abs=1e-9
    )
    constant = evaluate(TASK, np.ones((60, 1)), true, ["stars"]).metrics
    assert (constant["pearson"], constant["spearman"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("four", "row 1 (rows count from 0) of rows: column 'label': found 'four', expected a num"),
        ("1,5", "found '1,5', expected a number; write a decimal point"),
        ("1_000", "found '1_000', expected a number"),
        ("1e999", "expected a finite number"),
    ],
)
def test_a_label_that_is_not_a_number_is_reported(label, words):
    raw = [{"text": "x", "label": 3.5}, {"text": "y", "label": label}]
    with pytest.raises(DataError) as caught:
        read(TASK, make_table(raw), DataConfig(), ["label"])
    assert words in str(caught.value)


def test_the_number_that_marks_a_missing_label_is_refused():
    rows = make_table([{"text": "x", "label": -100.0}])
    with pytest.raises(DataError, match="shift or scale the numbers"):
        read(TASK, rows, DataConfig(), ["label"])
