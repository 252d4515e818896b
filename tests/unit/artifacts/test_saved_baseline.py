"""The files of a baseline give its outputs again, for every kind of label."""

import json

import numpy as np
import pytest

from lora_tune.artifacts.saved_baseline import (
    BaselineFiles,
    read_baseline_files,
    write_baseline_files,
)
from lora_tune.config.data import DataConfig
from lora_tune.data.splits import load_data
from lora_tune.errors import ArtifactError
from lora_tune.evaluation.baseline_predictor import BaselinePredictor
from lora_tune.evaluation.linear_baselines import fit_constant, linear_probe, tfidf_baseline
from lora_tune.tasks import make_task
from tests.tiny import make_tokenizer
from tests.unit.rows import write_splits

WORDS = ["fine", "dull", "odd"]
# Task -> a row's label, and all label names; train lacks the last class, and no row lacks "all".
KINDS = {
    "sequence_classification": (lambda i: WORDS[i % 3], [*WORDS, "unseen"]),
    "multi_label_classification": (lambda i: [WORDS[i % 3], "all"], [*WORDS, "all"]),
    "sequence_regression": (lambda i: 1.5 * (i % 3) + 0.01 * i, None),
}


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    tokenizer = make_tokenizer("bert")

    def load(name):
        label, labels = KINDS[name]
        rows = [{"text": f"A {WORDS[i % 3]} film, {i}.", "label": label(i)} for i in range(120)]
        folder = tmp_path_factory.mktemp("rows")
        write_splits(folder, train=rows[:90], test=rows[90:])
        task = make_task(name)
        return load_data(DataConfig(source=str(folder), labels=labels), task, tokenizer), task

    return load


def save_and_read(result, data, task, folder):
    files = BaselineFiles(result.fitted, fit_constant(data, task))
    write_baseline_files(folder, files, result.name)
    return read_baseline_files(folder)


@pytest.mark.parametrize("name", KINDS)
def test_tfidf_gives_the_same_outputs_after_reading(load, tmp_path, name):
    data, task = load(name)
    result = tfidf_baseline(data, task)
    read = save_and_read(result, data, task, tmp_path)
    assert not {path.suffix for path in tmp_path.iterdir()} - {".json", ".safetensors"}
    predictor = BaselinePredictor(None, None, task, data.labels, fitted=read.fitted)
    outputs = np.concatenate(predictor.compute_outputs(list(data.test.rows.inputs)))
    expected = np.concatenate(result.evaluation.outputs)
    assert outputs == pytest.approx(expected, abs=1e-12)
    assert len(np.unique(expected.round(6), axis=0)) > 2  # else any outputs would be the same
    assert read.constant.output == pytest.approx(fit_constant(data, task).output)
    assert read.constant.name == fit_constant(data, task).name
    predictions = predictor.predict(["A fine film.", "A dull film."])
    assert predictions[0].label != predictions[1].label


@pytest.mark.parametrize("name", KINDS)
def test_a_linear_probe_gives_the_same_outputs_after_reading(load, tmp_path, name):
    data, task = load(name)
    random = np.random.default_rng(0)
    pooled = {
        way: {
            split: random.normal(size=(len(own.rows.texts), 8)).astype(np.float32)
            for split, own in data.splits.items()
        }
        for way in ("mean", "first token")
    }
    result = linear_probe(pooled, data, task, feature_seconds=0.0)
    fitted = save_and_read(result, data, task, tmp_path).fitted
    assert result.note.startswith(f"{fitted.features.pooling} pooled, C={fitted.strength:g}")
    features = fitted.features.transform(pooled[fitted.features.pooling]["test"])
    expected = np.concatenate(result.evaluation.outputs)
    assert fitted.model.predict(features) == pytest.approx(expected, abs=1e-12)


def test_files_of_another_version_are_refused(load, tmp_path):
    data, task = load("sequence_regression")
    save_and_read(tfidf_baseline(data, task), data, task, tmp_path)
    path = tmp_path / "baseline.json"
    content = json.loads(path.read_text())
    other = content | {"settings": content["settings"] | {"ngram_range": [1, 3]}}
    path.write_text(json.dumps(other))
    with pytest.raises(ArtifactError, match="was written by another version of lora_tune"):
        read_baseline_files(tmp_path)
    path.write_text(json.dumps(content | {"terms": content["terms"][1:]}))
    with pytest.raises(ArtifactError, match="the shapes of its tensors do not fit each other"):
        read_baseline_files(tmp_path)
