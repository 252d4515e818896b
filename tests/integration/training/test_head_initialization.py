"""The head of a base model starts as a linear probe of its own features."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lora_tune.config.lora import LoraConfig
from lora_tune.evaluation.head_inputs import extract_head_inputs
from lora_tune.evaluation.model_evaluation import compute_outputs
from lora_tune.models.layers import last_linear
from lora_tune.tasks import make_task, pooled_task
from lora_tune.training import head_initialization
from lora_tune.training.head_initialization import (
    FEW_ROWS,
    STRENGTHS,
    ProbeRows,
    fit_probe,
    prepare_head,
)
from tests.integration.task_rows import BASES, LABELS
from tests.parts import Parts
from tests.tiny import reviews

ROWS = 40
TASKS = {
    "sequence_classification": np.arange(ROWS) % 3,
    "multi_label_classification": np.random.default_rng(0).integers(0, 2, (ROWS, 3)).astype(float),
    "sequence_regression": 1000 + 250 * np.random.default_rng(0).normal(size=ROWS),
}
NEWER = ["gpt2", "Qwen/Qwen2.5-1.5B-Instruct", "microsoft/deberta-v3-base"]


def make_context(parts, labels, folder):
    """A context whose training rows have these labels, and whose validation rows are few."""
    texts = [text[:99] for text in reviews()[0][: len(labels)]]
    encoded = Dataset.from_dict(dict(parts.tokenizer(texts)))
    train = SimpleNamespace(
        rows=SimpleNamespace(labels=labels, texts=texts, label_names=parts.labels),
        encoded=encoded,
    )
    data = SimpleNamespace(train=train, labels=parts.labels, can_select=False, class_weights=None)
    return parts.context(data, folder)


def train_logits(parts, context):
    """The model's logits of the training rows, (rows, outputs)."""
    columns = context.data.train.encoded[:]
    outputs = compute_outputs(
        parts.model, columns, task=context.task, collate=parts.collate, title=""
    )
    return np.concatenate(outputs)


def load(bases, base, task, pooling="model"):
    task = pooled_task(make_task(task), pooling)
    return Parts(bases[base], task=task, labels=LABELS.get(task.name))


@pytest.mark.parametrize(
    ("base", "task", "pooling"),
    [(BASES[task], task, pooling) for task in TASKS for pooling in ("model", "mean")]
    # With a bias or without one; pooled by the last token, or behind a layer of their own.
    + [(base, "sequence_classification", "model") for base in NEWER],
)
def test_the_logits_before_the_first_step_are_the_probes(bases, tmp_path, base, task, pooling):
    parts, labels = load(bases, base, task, pooling), TASKS[task]
    context = make_context(parts, labels, tmp_path)
    inputs = extract_head_inputs(
        parts.model,
        context.data.train.encoded[:],
        head=parts.head,
        collate=parts.collate,
        title="",
    )
    start = prepare_head(parts.model, context, head=parts.head, is_untrained=True)
    own = labels if start.scaling is None else start.scaling.standardize(labels)
    kinds = {"sequence_regression": "value", "multi_label_classification": "labels"}
    has_bias = last_linear(parts.model, parts.head).bias is not None
    rows = ProbeRows(inputs.features, own)
    probe = fit_probe(rows, parts.labels, kind=kinds.get(task, "class"), has_bias=has_bias)
    expected = inputs.features @ probe.weight.T + (probe.bias if has_bias else 0)
    # Rounding is relative to the terms of the sum, which are large where features hardly differ.
    terms = np.abs(inputs.features) @ np.abs(probe.weight.T)
    found = train_logits(parts, context)
    assert found == pytest.approx(expected, abs=1e-6 * max(10, terms.max()))
    assert np.ptp(expected) > 0


@pytest.mark.parametrize(("classes", "rows"), [(2, 60), (3, 60), (3, 600)])
def test_a_probe_of_classes_is_a_logistic_regression_of_standardized_features(classes, rows):
    random = np.random.default_rng(0)
    labels = np.arange(rows) % classes
    features = 5 + random.normal(size=(rows, 4)) * [1, 10, 100, 1000] + labels[:, None]
    probe = fit_probe(ProbeRows(features, labels), list("abc")[:classes], kind="class")
    shares = torch.tensor(features @ probe.weight.T + probe.bias).softmax(-1).numpy()
    strength = STRENGTHS["class"] * classes * (FEW_ROWS / rows if rows < FEW_ROWS else 1)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=strength))
    assert shares == pytest.approx(pipeline.fit(features, labels).predict_proba(features), abs=1e-4)


def test_tags_start_from_a_probe_of_words(bases, tmp_path, monkeypatch):
    monkeypatch.setitem(head_initialization.STRENGTHS, "tags", 1000)  # fits as well as it can
    parts = load(bases, "bert-base-cased", "token_classification")
    context = make_context(parts, np.zeros(ROWS), tmp_path)
    encoded = context.data.train.encoded.map(
        # The tag of a token says whether its ID is even, which its own state tells.
        lambda row: {"labels": [-100, *(i % 2 for i in row["input_ids"][1:-1]), -100]}
    )
    tags = np.empty(ROWS, dtype=object)
    tags[:] = [np.array(row[1:-1]) for row in encoded["labels"]]
    context.data.train.encoded, context.data.train.rows.labels = encoded, tags
    prepare_head(parts.model, context, head=parts.head, is_untrained=True)
    correct = []
    for row, own in zip(encoded, tags, strict=True):
        batch = {n: torch.tensor([v]) for n, v in row.items() if n != "labels"}
        with torch.no_grad():
            logits = parts.model(**batch).logits[0, 1:-1]
        correct.extend((logits.argmax(-1).numpy() == own).tolist())
    assert np.mean(correct) > 0.65


def test_a_trained_head_stays(bases, tmp_path):
    parts = load(bases, "bert-base-cased", "sequence_classification")
    context = make_context(parts, TASKS["sequence_classification"], tmp_path)
    layer = last_linear(parts.model, parts.head)
    before = layer.weight.detach().clone()
    prepare_head(parts.model, context, head=parts.head, is_untrained=False)
    assert torch.equal(layer.weight, before)


def test_a_random_start_on_request(bases, tmp_path):
    lora = LoraConfig(init_head_weights="default")
    parts = Parts(bases["bert-base-cased"], lora)
    context = make_context(parts, TASKS["sequence_classification"], tmp_path)
    before = last_linear(parts.model, parts.head).weight.detach().clone()
    prepare_head(parts.model, context, head=parts.head, is_untrained=True)
    assert torch.equal(last_linear(parts.model, parts.head).weight, before)


@pytest.mark.parametrize("variable", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_sharded_weights_are_not_scaled(bases, tmp_path, monkeypatch, variable):
    parts = load(bases, "roberta-base", "sequence_regression")
    context = make_context(parts, TASKS["sequence_regression"], tmp_path)
    monkeypatch.setenv(variable, "true")
    before = last_linear(parts.model, parts.head).weight.detach().clone()
    start = prepare_head(parts.model, context, head=parts.head, is_untrained=True)
    assert start.scaling is None
    assert torch.equal(last_linear(parts.model, parts.head).weight, before)
    monkeypatch.delenv(variable)
    start = prepare_head(parts.model, context, head=parts.head, is_untrained=True)
    assert start.scaling is not None


def test_a_class_that_no_row_has_is_less_probable_than_all_others():
    random = np.random.default_rng(0)
    labels = np.array([0, 1, 3] * 20)
    features = random.normal(size=(60, 5)) + labels[:, None]
    probe = fit_probe(ProbeRows(features, labels), list("abcd"), kind="class")
    logits = features @ probe.weight.T + probe.bias
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert shares.mean(axis=0).argmin() == 2
    assert np.isfinite(logits).all()


def test_few_validation_rows_choose_the_threshold_by_cross_validation(bases, tmp_path):
    parts = load(bases, BASES["multi_label_classification"], "multi_label_classification")
    rare = (np.random.default_rng(1).random((ROWS, 3)) < 0.15).astype(float)
    context = make_context(parts, rare, tmp_path)
    start = prepare_head(parts.model, context, head=parts.head, is_untrained=True)
    assert not start.task.has_open_threshold
    assert start.task.threshold < 0.5


def test_a_probe_of_many_rows_is_fitted_to_some(bases, tmp_path, monkeypatch):
    monkeypatch.setattr(head_initialization, "MAX_ROWS", 12)
    parts = load(bases, "bert-base-cased", "sequence_classification")
    context = make_context(parts, TASKS["sequence_classification"], tmp_path)
    seen = []

    def fit(rows, *rest, **named):
        seen.append(len(rows.labels))
        return fit_probe(rows, *rest, **named)

    monkeypatch.setattr(head_initialization, "fit_probe", fit)
    prepare_head(parts.model, context, head=parts.head, is_untrained=True)
    assert seen == [12]
