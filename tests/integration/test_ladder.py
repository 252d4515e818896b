"""The cheap rungs, on real features and words, and the figures of a run that they stand beside."""

import json
import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from lora_tune.batching import make_collator
from lora_tune.data import load_data
from lora_tune.diagnosis import diagnose
from lora_tune.features import read_features
from lora_tune.ladder import cheap_rungs
from lora_tune.plots import confusion_picture, roc_picture
from lora_tune.recipe import DataConfig, SplitConfig
from lora_tune.tasks import find_task
from tests.answers import judge_logits
from tests.integration.conftest import BASES, NEWER_BASES
from tests.parts import Parts

TASK = find_task("sequence_classification")


def load(parts, **more):
    config = DataConfig(source="embedded:movie_reviews", max_length=64, **more)
    return load_data(config, TASK, parts.tokenizer)


@pytest.mark.parametrize("base", BASES + NEWER_BASES)
def test_features_are_the_last_hidden_states_of_real_tokens(bases, base):
    parts = Parts(bases[base])
    data = load(parts, train=SplitConfig(samples=40))
    collate = make_collator(parts.tokenizer, TASK, parts.model)
    logits, pooled = read_features(parts.model, data.test.encoded[:], collate=collate, title="")
    for row in (0, 17, 395):
        ids = torch.tensor([data.test.encoded[row]["input_ids"]])
        with torch.no_grad():
            states = parts.model.base_model(ids, attention_mask=torch.ones_like(ids))[0][0]
            expected = parts.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        assert pooled["mean"][row] == pytest.approx(states.mean(0).numpy(), abs=1e-4)
        assert pooled["first token"][row] == pytest.approx(states[0].numpy(), abs=1e-4)
        assert pooled["last token"][row] == pytest.approx(states[-1].numpy(), abs=1e-4)
        assert logits[row] == pytest.approx(expected.numpy(), abs=1e-4)
    assert not parts.model.base_model._forward_hooks  # it leaves nothing behind


def test_the_rungs_by_hand(bases):
    parts = Parts(bases["distilbert-base-uncased"])
    data = load(parts)
    collate = make_collator(parts.tokenizer, TASK, parts.model)
    majority, words, base, head = cheap_rungs(parts.model, data, TASK, collate=collate)
    labels, train = data.test.rows.labels, data.train.rows.labels
    common = np.bincount(train).argmax()
    assert majority.evaluation.metrics["accuracy"] == pytest.approx((labels == common).mean())
    share = np.bincount(train, minlength=2) / len(train)
    assert majority.evaluation.metrics["loss"] == pytest.approx(-np.log(share[labels]).mean())
    assert words.evaluation.metrics["accuracy"] > 0.7
    assert base.evaluation.logits == pytest.approx(
        read_features(parts.model, data.test.encoded[:], collate=collate, title="")[0]
    )
    # The head again, with what was chosen.
    pooling, strength = head.note.replace(" pooled", "").split(", C=")
    features = {
        name: read_features(parts.model, split.encoded[:], collate=collate, title="")[1][pooling]
        for name, split in data.splits.items()
    }
    scale = StandardScaler().fit(features["train"])
    model = LogisticRegression(C=float(strength), max_iter=2000)
    model.fit(scale.transform(features["train"]), train)
    right = model.predict(scale.transform(features["test"])) == labels
    assert head.evaluation.metrics["accuracy"] == pytest.approx(right.mean())
    assert head.trained_parameters == features["train"].shape[1] + 1


def test_nothing_is_chosen_on_test_rows(bases):
    """Other test rows, the same choices."""
    parts = Parts(bases["distilbert-base-uncased"])
    collate = make_collator(parts.tokenizer, TASK, parts.model)
    notes = [
        [
            rung.note
            for rung in cheap_rungs(parts.model, load(parts, test=test), TASK, collate=collate)
        ]
        for test in (SplitConfig(), SplitConfig(samples=30))
    ]
    assert notes[0] == notes[1]


def test_a_run_records_the_ladder_and_shows_it_first(run_tiny):
    shown = []
    folder = run_tiny(show=shown.append)
    comparison = json.loads((folder / "comparison.json").read_text())
    names = ["majority", "words", "base", "head", "lora"]
    assert [score["rung"] for score in comparison["rungs"]] == names
    for score in comparison["rungs"]:
        low, high = score["interval"]
        assert low <= score["metrics"]["accuracy"] <= high
        assert score["train_seconds"] >= 0
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    for score in comparison["rungs"]:
        right = np.mean([row["rungs"][score["rung"]] == row["label"] for row in rows])
        assert right == pytest.approx(score["metrics"]["accuracy"])
    assert all(row["rungs"]["lora"] == row["adapted"] for row in rows)
    compared = next(text for text in shown if "majority class" in text)
    assert compared.startswith(comparison["headline"])
    assert sum(sum(row) for row in comparison["diagnosis"]["confusion"]) == len(rows)


def test_a_zeroed_adapter_shows_no_difference(run_tiny):
    """A run whose only step has rate 0: head and adapter stay as they were."""
    folder = run_tiny(training={"max_steps": 1, "warmup_steps": 1})
    comparison = json.loads((folder / "comparison.json").read_text())
    pair = next(pair for pair in comparison["pairs"] if pair["rung"] == "base")
    assert (pair["difference"], pair["interval"], pair["p_value"]) == (0, None, 1)
    assert "LoRA and the base have the same rows right: no difference shown" in pair["verdict"]
    assert comparison["headline"].startswith("LoRA does not clear")


def test_each_seed_is_what_it_would_be_alone(run_tiny):
    hard = {"learning_rate": 0.01}
    both = json.loads(
        (run_tiny(overrides=["seeds=[5,6]"], training=hard) / "comparison.json").read_text()
    )
    for score, seed in zip(both["seeds"], (5, 6), strict=True):
        folder = run_tiny(training=hard | {"seed": seed})
        alone = json.loads((folder / "comparison.json").read_text())
        assert score["metrics"] == alone["adapted"]
        assert alone["seeds"] == []
    assert both["adapted"] == both["seeds"][0]["metrics"]
    assert both["seeds"][0]["metrics"] != both["seeds"][1]["metrics"]


def test_a_validation_set_that_copies_the_test_set_is_in_the_headline(run_tiny, rows, tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text((rows / f"{split}.jsonl").read_text())
    loud = [json.loads(line) for line in (rows / "test.jsonl").read_text().splitlines()]
    lines = [json.dumps(row | {"text": row["text"].upper() + "!"}) for row in loud]
    (tmp_path / "validation.jsonl").write_text("\n".join(lines))
    shown = []
    data = {"source": str(tmp_path), "validation": {"split": "validation"}}
    folder = run_tiny(data=data, show=shown.append)
    comparison = json.loads((folder / "comparison.json").read_text())
    assert comparison["headline"].startswith("The validation rows are copies of the test rows")
    assert sum("0 of 32 test texts also stand in" in text for text in shown) == 1  # once
    assert any("0 of 32 test texts also stand" in caveat for caveat in comparison["caveats"])


def test_overfitting_is_told(run_tiny, tmp_path):
    # A word says the label of most rows; of some training rows it lies, and they are learnt last.
    for split, count, lies in (("train", 48, 8), ("validation", 24, 0), ("test", 24, 0)):
        lines = []
        for i in range(count):
            label = ["negative", "positive"][i % 2]
            word = ["dull", "fine"][(i + (i < 2 * lies and i % 4 < 2)) % 2]
            lines.append(json.dumps({"text": f"{i} a {word} film", "label": label}) + "\n")
        (tmp_path / f"{split}.jsonl").write_text("".join(lines))
    data = {"source": str(tmp_path), "validation": {"split": "validation", "fraction": None}}
    shown = []
    # Slow enough that it goes the same way on every processor.
    training = {"num_train_epochs": 24, "learning_rate": 0.003, "per_device_train_batch_size": 4}
    dropout = {"dropout": 0.0}  # whose draws may change with the code
    folder = run_tiny(data=data, model=dropout, lora=dropout, training=training, show=shown.append)
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    losses = [row["validation_loss"] for row in history]
    assert losses[-1] > 1.02 * min(losses)  # else this test shows nothing
    warning = next(text for text in shown if text.startswith("Overfitting: "))
    best = history[int(np.argmin(losses))]
    assert f"from epoch {best['epoch']:g} to 24 the training loss fell" in warning
    steps = [json.loads(line) for line in (folder / "training_loss.jsonl").read_text().splitlines()]
    assert len(steps) >= 40
    assert np.mean([s["train_loss"] for s in steps]) == pytest.approx(
        np.mean([row["train_loss"] for row in history]), rel=0.05
    )


@pytest.mark.parametrize(
    ("more", "missing"),
    [
        ({"data": {"test": {"file": "ONE"}}}, "roc"),
        ({"training": {"eval_strategy": "no", "load_best_model_at_end": False}}, "losses"),
        ({"training": {"logging_strategy": "no"}}, "losses"),
    ],
)
def test_a_report_without_what_a_run_lacks(run_tiny, rows, tmp_path, more, missing):
    lines = (rows / "test.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "one.jsonl").write_text("".join(x for x in lines if '"positive"' in x))
    if "data" in more:
        more = {"data": {"test": {"file": str(tmp_path / "one.jsonl")}}}
    page = (run_tiny(**more) / "report.html").read_text()
    assert page.count("<svg") == {"roc": 6, "losses": 5}[missing]


def test_many_classes_and_long_names(tmp_path):
    labels = [f"a label with a very long name, number {i}" for i in range(60)]
    random = np.random.default_rng(0)
    truth = random.integers(0, 60, 500)
    evaluation = judge_logits(random.normal(size=(500, 60)) + 4 * np.eye(60)[truth])
    found = diagnose(evaluation, truth, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matrix = confusion_picture(found.confusion, labels)
        few = confusion_picture([[3, 1], [0, 4]], labels[:2])
        roc_picture({score.label: (score.roc, score.auc) for score in found.classes})
    assert len(matrix) < 600_000
    assert "of 500 rows are right" in matrix[:2000]
    assert "a label with a very l\u2026" in few
