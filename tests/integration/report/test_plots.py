"""Plots with many classes and long names, of several metrics, and of numbers."""

import warnings

import numpy as np

from lora_tune.evaluation.error_analysis import analyze_errors
from lora_tune.report.classifier_plots import roc_plot
from lora_tune.report.confusion_matrix import confusion_plot
from lora_tune.report.regression_plots import MAX_POINTS, scatter_plot
from lora_tune.report.training_plots import metric_plots
from tests.answers import evaluate_logits


def test_many_classes_and_long_names(tmp_path):
    labels = [f"a label with a very long name, number {i}" for i in range(60)]
    random = np.random.default_rng(0)
    truth = random.integers(0, 60, 500)
    evaluation = evaluate_logits(random.normal(size=(500, 60)) + 4 * np.eye(60)[truth])
    found = analyze_errors(evaluation, truth, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matrix = confusion_plot(found.confusion, labels)
        few = confusion_plot([[3, 1], [0, 4]], labels[:2])
        roc_plot({score.label: (score.roc, score.auc) for score in found.classes})
    assert len(matrix) < 600_000
    assert "of 500 rows are correct" in matrix[:2000]
    assert "a label with a very l\u2026" in few


def test_each_metric_has_an_axis_of_its_own():
    evaluations = [
        {"epoch": e, "step": e, "validation_loss": 1.0, "rmse": 40.0 / e, "pearson": 0.1 * e}
        for e in (1.0, 2.0)
    ]
    rmse, pearson = metric_plots(evaluations, kept_epoch=2.0)
    assert "Validation rmse: epoch 1 40.000, epoch 2 20.000." in rmse
    assert "Validation pearson: epoch 1 0.100, epoch 2 0.200." in pearson
    assert "pearson" not in rmse


def test_predicted_against_true_numbers():
    true = np.linspace(0, 10, 5001)
    plot = scatter_plot(true, true + 0.5)
    assert "of 5,001 test rows, from 0 to 10.5; half of them are predicted to within 0.5." in plot
    assert MAX_POINTS <= plot.count("<use ") <= MAX_POINTS + 30
    assert "<svg" in scatter_plot([1.0], [1.0])
