"""Metrics of evaluate that a caller passes: computed offline for every system."""

import json

import evaluate
import pytest
from datasets import Features, Value
from sklearn.metrics import cohen_kappa_score, matthews_corrcoef


class Matthews(evaluate.Metric):
    """Matthews correlation and Cohen's kappa, without a download."""

    def _info(self):
        features = Features({"predictions": Value("int64"), "references": Value("int64")})
        return evaluate.MetricInfo(
            description="Matthews", citation="", inputs_description="", features=features
        )

    def _compute(self, predictions, references):
        return {
            "matthews": matthews_corrcoef(references, predictions),
            "kappa": cohen_kappa_score(references, predictions),
        }


def test_every_system_gets_the_callers_metrics(run_tiny):
    module = Matthews(keep_in_memory=True)
    folder = run_tiny(metrics=[module], overrides=["seeds=[0,1]"], report=True)
    comparison = json.loads((folder / "comparison.json").read_text())
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    for result in comparison["results"]:
        predicted = [row["predictions"][result["name"]] for row in rows]
        expected = matthews_corrcoef([row["label"] for row in rows], predicted)
        assert result["metrics"]["matthews"] == pytest.approx(expected, abs=1e-12)
    assert comparison["metric"] == "accuracy"  # the primary metric stays
    assert "matthews" in comparison["adapted"]


def test_seqeval_scores_entities_as_we_do():
    """The entity F1 of our own counts is that of seqeval."""
    import numpy as np
    from seqeval.metrics import f1_score

    from lora_tune.metrics.entities import count_entities, entities_from_tags
    from lora_tune.metrics.metric import f1_from_sums

    random = np.random.default_rng(0)
    names = ["O", "B-person", "I-person", "B-place", "I-place"]
    true, predicted = (
        [[names[i] for i in random.integers(0, 5, 12)] for _ in range(200)] for _ in range(2)
    )
    pairs = zip(true, predicted, strict=True)
    counts = np.array(
        [count_entities(set(entities_from_tags(a)), set(entities_from_tags(b))) for a, b in pairs]
    )
    assert float(f1_from_sums(counts.sum(axis=0))) == pytest.approx(f1_score(true, predicted))
