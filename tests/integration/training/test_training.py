"""Training runs on tiny models: seeds, batches, best epochs, and failures."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AttentionInterface

from lora_tune.artifacts.saved_adapter import load_adapter
from lora_tune.data.batching import make_collator
from lora_tune.data.splits import load_data
from lora_tune.errors import LoraTuneError
from lora_tune.evaluation.model_evaluation import evaluate_model
from lora_tune.tasks import make_task
from lora_tune.tasks.recipes import load_recipe


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def weights(folder):
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def test_the_same_seed_gives_the_same_bytes(run_tiny, plain_run):
    again = run_tiny()
    for name in ("adapter_model.safetensors", "adapter_config.json", "labels.json"):
        first, second = (run / "adapter" / name for run in (plain_run, again))
        assert first.read_bytes() == second.read_bytes()
    assert read_lines(again / "history.jsonl") == read_lines(plain_run / "history.jsonl")


def test_another_seed_gives_another_adapter(run_tiny, plain_run):
    assert weights(run_tiny(training={"seed": 7})) != weights(plain_run)


def test_gradient_accumulation_takes_the_step_of_the_whole_batch(run_tiny):
    def train(batch, steps):
        folder = run_tiny(
            base="gpt2",  # its head has no dropout of its own
            lora={"dropout": 0.0},
            model={"dropout": 0.0},
            training={
                "per_device_train_batch_size": batch,
                "gradient_accumulation_steps": steps,
                "train_sampling_strategy": "sequential",
                "optim": "sgd",  # Adam would divide rounding errors where gradients vanish
                "learning_rate": 0.1,
                "max_grad_norm": 0,  # clipping would hide a wrong scale
            },
        )
        return load_file(folder / "adapter" / "adapter_model.safetensors")

    whole, parts, larger = train(4, 1), train(1, 4), train(8, 1)
    for name, tensor in whole.items():
        assert torch.allclose(parts[name], tensor, atol=1e-5), name
    assert any(not torch.allclose(larger[name], t, atol=1e-5) for name, t in whole.items())


@pytest.mark.parametrize(
    ("metric", "column", "learning_rate"),
    [("loss", "validation_loss", 0.03), (None, "accuracy", 0.03)],
)
def test_the_best_epoch_is_kept(run_tiny, metric, column, learning_rate):
    folder = run_tiny(
        # Dropout's random numbers may change with the code.
        lora={"dropout": 0.0, "init_head_weights": "default"},
        training={
            "num_train_epochs": 6,
            "load_best_model_at_end": True,
            "learning_rate": learning_rate,
            "metric_for_best_model": metric,
        },
    )
    history = read_lines(folder / "history.jsonl")
    sign = 1 if column == "accuracy" else -1
    best = max(history, key=lambda row: (sign * row[column], -row["validation_loss"]))
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["best_step"] == best["step"]
    assert best["step"] != history[-1]["step"], "choose settings that overfit"

    loaded = load_adapter(folder / "adapter")
    task = make_task("sequence_classification")
    data = load_data(load_recipe(str(folder / "recipe.yaml")).data, task, loaded.tokenizer)
    collate = make_collator(loaded.tokenizer, loaded.task, loaded.model)
    again = evaluate_model(loaded.model, data.validation, task=task, collate=collate, title="")
    assert again.metrics["loss"] == pytest.approx(best["validation_loss"], abs=1e-6)


def test_early_stopping_waits_for_its_patience(run_tiny):
    folder = run_tiny(
        training={
            "num_train_epochs": 30,
            "learning_rate": 0.05,
            "early_stopping_patience": 2,
            "metric_for_best_model": "loss",
        }
    )
    history = read_lines(folder / "history.jsonl")
    losses = [row["validation_loss"] for row in history]
    assert len(losses) < 30
    assert np.argmin(losses) == len(losses) - 3


def test_a_diverged_loss_is_an_error(run_tiny):
    with pytest.raises(LoraTuneError, match=r"training: (eval_)?loss is (nan|inf) at step"):
        run_tiny(training={"learning_rate": 1e30, "max_grad_norm": 0.0, "optim": "sgd"})


@pytest.mark.parametrize(("bf16", "module"), [(True, "fused_lora"), (False, "merged_lora")])
def test_patches_are_undone_when_training_fails(run_tiny, monkeypatch, bf16, module):
    models = []

    def fail(model, *_, **__):
        models.append(model)
        forwards = [vars(layer).get("forward") for layer in model.modules()]
        assert f"lora_tune.fast.{module}" in {getattr(f, "__module__", None) for f in forwards}
        assert AttentionInterface()["sdpa"] is not own
        raise ZeroDivisionError

    own = AttentionInterface()["sdpa"]
    monkeypatch.setattr("lora_tune.training.trainer.evaluate_model", fail)
    with pytest.raises(ZeroDivisionError):
        run_tiny(base="bert-base-cased", training={"bf16": bf16})
    assert AttentionInterface()["sdpa"] is own
    inner = models[0].get_base_model()
    assert not any("forward" in vars(m) for m in inner.modules() if m is not inner)


def test_no_test_row_is_used_for_training_or_selection(run_tiny, plain_run, rows, tmp_path):
    """Another test file changes the comparison, but not a bit of the adapter."""
    other = tmp_path / "other.jsonl"
    lines = (rows / "test.jsonl").read_text().splitlines(keepends=True)
    other.write_text("".join(lines[:10] + lines[-10:]))
    changed = run_tiny(data={"test": {"file": str(other)}})
    assert weights(changed) == weights(plain_run)
    assert json.loads((changed / "comparison.json").read_text())["test_rows"] == 20


def test_a_model_trained_in_bf16_is_evaluated_in_float32(run_tiny, rows):
    """Autocast is for training: base, adapted and loaded model predict without it."""
    folder = run_tiny(training={"bf16": True})
    texts = [row["text"] for row in read_lines(rows / "test.jsonl")]
    recorded = read_lines(folder / "predictions.jsonl")
    for row, prediction in zip(
        recorded, load_adapter(folder / "adapter").predict(texts), strict=True
    ):
        assert prediction.probabilities == pytest.approx(row["adapted_probabilities"], abs=1e-6)


def test_a_training_without_effect_is_reported(run_tiny, plain_run):
    trained = json.loads((plain_run / "comparison.json").read_text())["warnings"]
    assert not any("did not change the adapter" in warning for warning in trained)
    unchanged = run_tiny(training={"max_steps": 1, "warmup_steps": 1})  # its one step has rate 0
    warnings = json.loads((unchanged / "comparison.json").read_text())["warnings"]
    assert warnings[-1].startswith("Training did not change the adapter")
