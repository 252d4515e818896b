"""Baselines on real features and words, and the comparison of a run with them."""

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from lora_tune.config.data import DataConfig, SplitConfig
from lora_tune.data.batching import make_collator
from lora_tune.data.splits import load_data
from lora_tune.evaluation.baselines import evaluate_baselines
from lora_tune.evaluation.pooled_features import extract_features
from lora_tune.tasks import make_task
from tests.integration.conftest import BASES, NEWER_BASES
from tests.parts import Parts

TASK = make_task("sequence_classification")


def load(parts, **more):
    config = DataConfig(source="embedded:movie_reviews", max_length=64, **more)
    return load_data(config, TASK, parts.tokenizer)


@pytest.mark.parametrize("base", BASES + NEWER_BASES)
def test_features_are_the_last_hidden_states_of_real_tokens(bases, base):
    parts = Parts(bases[base])
    data = load(parts, train=SplitConfig(samples=40))
    collate = make_collator(parts.tokenizer, TASK, parts.model)
    logits, pooled = extract_features(parts.model, data.test.encoded[:], collate=collate, title="")
    for row in (0, 17, 395):
        ids = torch.tensor([data.test.encoded[row]["input_ids"]])
        with torch.no_grad():
            states = parts.model.base_model(ids, attention_mask=torch.ones_like(ids))[0][0]
            expected = parts.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        assert pooled["mean"][row] == pytest.approx(states.mean(0).numpy(), abs=1e-4)
        assert pooled["first token"][row] == pytest.approx(states[0].numpy(), abs=1e-4)
        assert pooled["last token"][row] == pytest.approx(states[-1].numpy(), abs=1e-4)
        assert logits[row] == pytest.approx(expected.numpy(), abs=1e-4)
    assert not parts.model.base_model._forward_hooks  # none is left


def test_each_baseline_by_hand(bases, tmp_path):
    parts = Parts(bases["distilbert-base-uncased"])
    data = load(parts)
    context = parts.context(data, tmp_path, seed=3)
    majority, tfidf, base, probe = evaluate_baselines(context).results
    model = context.load_base_model(3).model
    labels, train = data.test.rows.labels, data.train.rows.labels
    common = np.bincount(train).argmax()
    assert majority.evaluation.metrics["accuracy"] == pytest.approx((labels == common).mean())
    share = np.bincount(train, minlength=2) / len(train)
    assert majority.evaluation.metrics["loss"] == pytest.approx(-np.log(share[labels]).mean())
    assert tfidf.evaluation.metrics["accuracy"] > 0.7
    found = {
        name: extract_features(model, split.encoded[:], collate=context.collate(model), title="")
        for name, split in data.splits.items()
    }
    assert base.evaluation.logits == pytest.approx(found["test"][0])
    # The linear probe again, with the pooling and the regularization that it chose.
    pooling, strength = probe.note.replace(" pooled", "").split(", C=")
    features = {name: pooled[pooling] for name, (_, pooled) in found.items()}
    scale = StandardScaler().fit(features["train"])
    linear = LogisticRegression(C=float(strength), max_iter=2000)
    linear.fit(scale.transform(features["train"]), train)
    right = linear.predict(scale.transform(features["test"])) == labels
    assert probe.evaluation.metrics["accuracy"] == pytest.approx(right.mean())
    assert probe.trained_parameters == features["train"].shape[1] + 1


def test_nothing_is_chosen_on_test_rows(bases, tmp_path):
    """With other test rows, the baselines choose the same."""
    parts = Parts(bases["distilbert-base-uncased"])
    notes = [
        [
            result.note
            for result in evaluate_baselines(
                parts.context(load(parts, test=test), tmp_path)
            ).results
        ]
        for test in (SplitConfig(), SplitConfig(samples=30))
    ]
    assert notes[0] == notes[1]


def test_a_run_records_every_baseline_and_shows_the_headline_first(run_tiny):
    shown = []
    folder = run_tiny(show=shown.append)
    comparison = json.loads((folder / "comparison.json").read_text())
    names = ["majority", "tfidf", "base", "linear_probe", "lora"]
    assert [score["name"] for score in comparison["results"]] == names
    for score in comparison["results"]:
        low, high = score["interval"]
        assert low <= score["metrics"]["accuracy"] <= high
        assert score["train_seconds"] >= 0
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    for score in comparison["results"]:
        right = np.mean([row["predictions"][score["name"]] == row["label"] for row in rows])
        assert right == pytest.approx(score["metrics"]["accuracy"])
    assert all(row["predictions"]["lora"] == row["adapted"] for row in rows)
    compared = next(text for text in shown if "majority class" in text)
    best = "adapter" if comparison["recommended"] == "lora" else "baseline"
    assert compared.startswith(f"Use {folder / best}: {comparison['headline']}\n")
    assert comparison["recommendation"] == f"Use {best}: {comparison['headline']}"
    assert sum(sum(row) for row in comparison["error_analysis"]["confusion"]) == len(rows)


def test_an_unchanged_adapter_does_not_differ_from_the_base_model(run_tiny):
    """The only step has rate 0, so head and adapter stay as they are."""
    random_head = {"init_head_weights": "default"}
    folder = run_tiny(lora=random_head, training={"max_steps": 1, "warmup_steps": 1})
    comparison = json.loads((folder / "comparison.json").read_text())
    against_base = next(c for c in comparison["comparisons"] if c["name"] == "base")
    assert (against_base["difference"], against_base["p_value"]) == (0, 1)
    low, high = against_base["interval"]
    assert low == -high < 0
    assert "LoRA and the base model are correct on the same rows" in against_base["verdict"]
    assert comparison["headline"].startswith("LoRA does not beat")


def test_several_seeds_give_what_each_gives_alone(run_tiny):
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


def test_a_validation_set_that_copies_the_test_set_is_reported(run_tiny, rows, tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text((rows / f"{split}.jsonl").read_text())
    test_rows = [json.loads(line) for line in (rows / "test.jsonl").read_text().splitlines()]
    lines = [json.dumps(row | {"text": row["text"].upper() + "!"}) for row in test_rows]
    (tmp_path / "validation.jsonl").write_text("\n".join(lines))
    shown = []
    data = {"source": str(tmp_path), "validation": {"split": "validation"}}
    folder = run_tiny(data=data, show=shown.append)
    comparison = json.loads((folder / "comparison.json").read_text())
    assert comparison["headline"].startswith("The validation rows are duplicates of the test rows")
    assert sum("0 of 32 test texts also occur in" in text for text in shown) == 1  # once
    assert any("0 of 32 test texts also occur" in warning for warning in comparison["warnings"])


def test_overfitting_is_reported(run_tiny, tmp_path):
    # One word gives the label of most rows; in some rows it is wrong, and the training rows among
    # them are learned last, by heart.
    for split, count, wrong in (("train", 48, 8), ("validation", 100, 16), ("test", 24, 0)):
        lines = []
        for i in range(count):
            label = ["negative", "positive"][i % 2]
            word = ["dull", "fine"][(i + (i < 2 * wrong and i % 4 < 2)) % 2]
            lines.append(json.dumps({"text": f"{i} a {word} film", "label": label}) + "\n")
        (tmp_path / f"{split}.jsonl").write_text("".join(lines))
    data = {"source": str(tmp_path), "validation": {"split": "validation", "fraction": None}}
    shown = []
    # A learning rate low enough for the same course on every processor.
    training = {"num_train_epochs": 40, "learning_rate": 0.006, "per_device_train_batch_size": 4}
    dropout = {"dropout": 0.0}  # its random numbers may change with the code
    lora = dropout | {"init_head_weights": "default"}
    folder = run_tiny(data=data, model=dropout, lora=lora, training=training, show=shown.append)
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    losses = [row["validation_loss"] for row in history]
    assert losses[-1] > 1.2 * min(losses)  # else there is no overfitting to report
    warning = next(text for text in shown if "Overfitting: " in text)
    kept = json.loads((folder / "comparison.json").read_text())["overfitting"]["kept_step"]
    assert f"Kept: the weights of step {kept} (epoch" in warning
    best = history[int(np.argmin(losses))]
    assert f"from epoch {best['epoch']:g} to 40 the training loss fell" in warning
    steps = [json.loads(line) for line in (folder / "training_loss.jsonl").read_text().splitlines()]
    assert len(steps) >= 40
    assert np.mean([s["train_loss"] for s in steps]) == pytest.approx(
        np.mean([row["train_loss"] for row in history]), rel=0.05
    )
