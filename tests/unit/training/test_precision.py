"""Which precision a recipe is trained in, by device."""

import pytest

from lora_tune.tasks.recipes import load_recipe
from lora_tune.training.precision import find_slow_precision, resolve_precision

ROUNDED = [
    ["model.quantization=4bit"],
    ["model.quantization=4bit", "model.dtype=bfloat16"],
    ["model.quantization=8bit"],
    ["model.dtype=bfloat16"],
    ["model.dtype=float16"],
]


@pytest.fixture
def resolve(monkeypatch):
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)

    def resolve_with(*overrides, device="cpu", units="AVX-512"):
        monkeypatch.setattr("lora_tune.training.precision.find_bfloat16_units", lambda _: units)
        return resolve_precision(load_recipe("quickstart", overrides), device)

    return resolve_with


@pytest.mark.parametrize(
    ("device", "units", "expected"),
    [
        ("cpu", "AVX-512", "bfloat16"),
        ("cpu", "AMX", "bfloat16"),
        ("cpu", "Arm", "bfloat16"),
        ("cpu", "none", "float32"),
        ("cpu", None, "float32"),
        ("cuda", "GPU", "bfloat16"),
        ("cuda", "none", "float32"),
        ("mps", None, "float32"),
    ],
)
def test_auto_is_bfloat16_where_the_device_has_units(resolve, device, units, expected):
    assert resolve(device=device, units=units) == expected


@pytest.mark.parametrize("units", ["none", "AVX-512"])
@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.precision=float32", "float32"),
        ("training.precision=bfloat16", "bfloat16"),
        ("training.precision=float16", "float16"),
        ("training.bf16=true", "bfloat16"),
        ("training.bf16=false", "float32"),
        ("training.fp16=true", "float16"),
        ("training.fp16=false", "float32"),
    ],
)
def test_what_a_recipe_asks_for_rules(resolve, units, override, expected):
    assert resolve(override, units=units) == expected


@pytest.mark.parametrize("overrides", ROUNDED)
def test_auto_leaves_a_rounded_base_model_without_autocast(resolve, overrides):
    assert resolve(*overrides) == "float32"


@pytest.mark.parametrize("override", ["training.deepspeed=ds.json", "training.fsdp=full_shard"])
def test_auto_leaves_sharded_trainings_in_float32(resolve, override):
    assert resolve(override) == "float32"


@pytest.mark.parametrize(
    ("launched", "expected"),
    [("no", "bfloat16"), ("bf16", "bfloat16"), ("fp16", "float16"), ("fp8", "bfloat16")],
)
def test_accelerate_launch_rules_over_auto_alone(resolve, monkeypatch, launched, expected):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    assert resolve() == expected
    assert resolve("training.precision=float32") == "float32"


@pytest.mark.parametrize(
    ("units", "training", "start"),
    [
        ("none", {"precision": "bfloat16", "bf16": True}, "training.bf16: this device has no"),
        ("none", {"precision": "bfloat16"}, "training.precision: this device has no"),
        ("none", {"precision": "float32"}, None),
        (None, {"precision": "bfloat16"}, None),
        ("AMX", {"precision": "bfloat16"}, None),
    ],
)
def test_emulated_bfloat16_is_reported(monkeypatch, units, training, start):
    monkeypatch.setattr("lora_tune.training.precision.find_bfloat16_units", lambda _: units)
    warning = find_slow_precision(training, "cpu")
    assert warning is None if start is None else warning.startswith(start)
