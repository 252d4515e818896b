"""Plots with many classes and long names."""

import warnings

import numpy as np

from lora_tune.evaluation.error_analysis import analyze_errors
from lora_tune.report.classifier_plots import roc_plot
from lora_tune.report.confusion_matrix import confusion_plot
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
