"""A recipe's `training:` section as arguments of Trainer, and what is refused."""

import json

import pytest

from lora_tune.errors import LoraTuneError
from lora_tune.tasks import make_task
from lora_tune.training.arguments import make_arguments
from tests.parts import RESOLVED_TRAINING


@pytest.mark.parametrize(
    ("task", "metric", "greater"),
    [
        ("sequence_regression", "rmse", False),
        ("sequence_regression", "pearson", True),
        ("causal_lm", "bits_per_byte", False),
        ("causal_lm", None, False),
        ("token_classification", None, True),
        ("sequence_classification", "loss", False),
    ],
)
def test_whether_greater_is_better_follows_from_the_metric(tmp_path, task, metric, greater):
    training = RESOLVED_TRAINING | {"metric_for_best_model": metric}
    arguments = make_arguments(training, task=make_task(task), checkpoints=tmp_path)
    assert arguments.greater_is_better is greater


@pytest.mark.parametrize(
    ("training", "key"),
    [({"fp16": True}, "fp16"), ({"precision": "float16"}, "precision")],
)
def test_float16_is_refused_without_a_gpu(run_tiny, monkeypatch, training, key):
    for module in ("arguments", "preparation"):
        monkeypatch.setattr(f"lora_tune.training.{module}.find_device", lambda: "cpu")
    line = rf"^training.{key}: float16 needs a GPU, found the CPU; use training.precision=auto$"
    with pytest.raises(LoraTuneError, match=line):
        run_tiny(training=training)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.eval_strategy=epok", "training.eval_strategy: epok is not a valid"),
        ("training.lr_scheduler_type=linearr", "training.lr_scheduler_type: linearr is not a "),
        ("training.metric_for_best_model=acuracy", "is not computed; did you mean accuracy?"),
        (
            "training.train_sampling_strategy=sequental",
            "is not one of its values; did you mean sequential?",
        ),
        (
            "training.train_sampling_strategy=size",
            "there are random, sequential, group_by_length",
        ),
        ("training.report_to=wandb", "training.report_to: WandbCallback requires wandb"),
        ("training.seed=-1", "training.seed must be 0 to 4294967295, got -1"),
        ("lora.rank=33", "lora.rank: 33 is above 32, the full rank of"),
    ],
)
def test_an_invalid_value_gets_one_line(run_tiny, override, words):
    with pytest.raises(LoraTuneError) as caught:
        run_tiny(overrides=[override])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("units", "asked", "trained_in"),
    [
        ("AMX", {"precision": "auto"}, "bfloat16"),
        (None, {"precision": "auto"}, None),
        ("none", {"precision": "auto"}, None),
        ("AMX", {"precision": "float32"}, None),
        ("AMX", {"bf16": False}, None),
        ("AMX", {"bf16": True}, "bfloat16"),
        ("none", {"bf16": True}, "bfloat16"),
        ("none", {"precision": "bfloat16"}, "bfloat16"),
    ],
)
def test_the_precision_is_recorded_and_emulation_is_reported(
    run_tiny, monkeypatch, units, asked, trained_in
):
    for module in ("training.precision", "system.environment"):
        monkeypatch.setattr(f"lora_tune.{module}.find_bfloat16_units", lambda _: units)
    shown = []
    folder = run_tiny(training={"num_train_epochs": 1} | asked, show=shown.append)
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["autocast"] == trained_in
    assert environment["bfloat16_units"] == units
    assert {"threads", "keeps_freed_memory"} <= environment.keys()
    warnings = [text for text in shown if "no instructions for bfloat16" in text]
    assert len(warnings) == (units == "none" and trained_in == "bfloat16")
    assert all(text.startswith(f"training.{next(iter(asked))}: ") for text in warnings)
