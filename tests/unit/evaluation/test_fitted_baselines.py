"""Fitted baselines are arrays that give scikit-learn's outputs, and hold no secret."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from lora_tune.config.data import DataConfig
from lora_tune.data.splits import load_data
from lora_tune.evaluation.fitted_baselines import fit_pooled_features
from lora_tune.evaluation.linear_baselines import tfidf_baseline
from lora_tune.evaluation.linear_models import ClassModels
from lora_tune.tasks import make_task
from tests.tiny import make_tokenizer
from tests.unit.rows import write_splits

SECRET = "Hf_S3cretOfTheEnvironment"


@pytest.mark.parametrize("classes", [2, 3])
def test_log_probabilities_are_those_of_scikit_learn(classes):
    random = np.random.default_rng(classes)
    features, labels = random.normal(size=(90, 5)), np.arange(90) % classes
    features[:, 0] += labels
    model = ClassModels().fit(features, labels, ["a", "b", "c", "d"], 1.0)
    expected = (
        LogisticRegression(C=1.0, max_iter=2000).fit(features, labels).predict_proba(features)
    )
    found = model.predict(features)
    assert np.exp(found[:, :classes]) == pytest.approx(expected, abs=1e-12)
    assert found[:, classes:] == pytest.approx(np.log(1e-12))  # train lacks these classes


def test_features_are_standardized_as_in_train():
    pooled = np.random.default_rng(0).normal(3, 7, size=(40, 6)).astype(np.float32)
    features = fit_pooled_features("mean", pooled[:30])
    expected = StandardScaler().fit(pooled[:30]).transform(pooled)
    assert features.transform(pooled) == pytest.approx(expected, abs=1e-6)
    assert features.transform(pooled).dtype == np.float64, "solvers may not converge in float32"


def test_terms_hold_no_secret(tmp_path, monkeypatch):
    """In another case too, since terms are folded."""
    rows = [{"text": f"{['fine', 'dull'][i % 2]} {SECRET} film", "label": i % 2} for i in range(40)]
    write_splits(tmp_path, train=rows, test=rows[:10])
    task = make_task("sequence_classification")
    config = DataConfig(source=str(tmp_path), labels=["good", "bad"])
    terms = []
    for name in ("MY_VALUE", "MY_TOKEN"):
        monkeypatch.setenv(name, SECRET)
        data = load_data(config, task, make_tokenizer("bert"))
        terms.append(tfidf_baseline(data, task).fitted.features.terms)
    assert f"fine {SECRET.lower()}" in terms[0]
    assert set(terms[1]) == {"fine", "dull", "film"}
