"""What the `lora:` section forbids by itself, and together with a quantized base model."""

import json
import re

import pytest

from lora_tune.config.lora import INITIALIZATIONS, LoraConfig
from lora_tune.config.recipe_file import load_recipe


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            "lora.init_lora_weights=pisa",
            "init_lora_weights: found 'pisa', expected default, g",
        ),
        (
            "lora.init_lora_weights=pissa_niter_",
            "init_lora_weights: found 'pissa_niter_', exp",
        ),
        (
            "lora.init_lora_weights=orthogonal lora.rank=3",
            "init_lora_weights orthogonal needs even ranks, got 3",
        ),
        (
            "lora.init_lora_weights=orthogonal lora.rank_pattern={query: 5}",
            "init_lora_weights orthogonal needs even ranks, got 5",
        ),
        (
            "lora.init_lora_weights=loftq",
            "init_lora_weights loftq needs a 4-bit base model, found model.quantization=null",
        ),
        (
            "lora.init_lora_weights=loftq model.quantization=8bit",
            "init_lora_weights loftq needs a 4-bit base model, found model.quantization=8bit",
        ),
        *(
            (
                f"lora.init_lora_weights={initialization} model.quantization={bits}",
                f"init_lora_weights {initialization} needs a base model in full precision; set",
            )
            for initialization in ("pissa", "pissa_niter_4", "olora", "orthogonal")
            for bits in ("4bit", "8bit")
        ),
        (
            "lora.use_dora=true model.quantization=8bit",
            "use_dora cannot read 8-bit weights; set model.quantization=4bit or null",
        ),
        *(
            (
                f"lora.init_lora_weights={initialization} model.dtype=bfloat16",
                f"init_lora_weights {initialization} needs a base model in full precision; set",
            )
            for initialization in ("pissa", "orthogonal")
        ),
        (
            "lora.bias=all model.dtype=bfloat16",
            "bias trains weights of the base model, found model.dtype=bfloat16; set",
        ),
        (
            "lora.modules_to_save=[LayerNorm] model.dtype=float16",
            "modules_to_save trains weights of the base model, found model.dtype=float16;",
        ),
        ("lora.rank_pattern={query: 0}", "rank_pattern must be >= 1, got 0 for 'query'"),
        ("lora.alpha_pattern={query: 0}", "alpha_pattern must be above 0, got 0.0 for 'query"),
        (
            'lora.alpha_pattern={"(": 4}',
            "alpha_pattern: found '(', expected a name or a regular expression: missing ), unt",
        ),
        (
            'lora.rank_pattern={"(?i)query": 4}',
            "rank_pattern: found '(?i)query', expected a name or a regular expression: global",
        ),
        ("lora.exclude_modules='['", "exclude_modules: found '[', expected a name or a regul"),
        (
            "lora.exclude_modules=[]",
            "exclude_modules: found [], expected null, a list of modu",
        ),
        ("lora.exclude_modules=['']", "exclude_modules: found [''], expected null, a list of m"),
        (
            "lora.target_modules=[]",
            "target_modules: found [], expected all-linear or a list of mod",
        ),
        ("lora.target_modules=query", "target_modules: found 'query', expected all-linear or a li"),
        (
            "lora.layers_to_transform=[]",
            "layers_to_transform: found [], expected numbers from",
        ),
        (
            "lora.layers_to_transform=[-1]",
            "layers_to_transform: found [-1], expected numbers ",
        ),
        ("lora.modules_to_save=[]", "modules_to_save: found [], expected module names, or n"),
        ("lora.lora_plus_ratio=0.5", "lora_plus_ratio must be >= 1, or null, got 0.5"),
    ],
)
def test_a_wrong_value_gets_one_line(write, fault_lines, overrides, line):
    (only,) = fault_lines(write(), *re.split(r" (?=lora\.|model\.)", overrides))
    assert only.startswith(f"command line: lora.{line}")


def test_every_initialization_is_allowed_with_its_base_model(load):
    for initialization in (*INITIALIZATIONS, "pissa_niter_16"):
        bits = "4bit" if initialization == "loftq" else "null"
        recipe = load(f"lora.init_lora_weights={initialization}", f"model.quantization={bits}")
        assert recipe.lora.changes_base == (
            initialization.startswith("pissa") or initialization == "olora"
        )


def test_a_pattern_may_have_dots_and_travels_in_the_recorded_recipe(load, tmp_path):
    text = "lora: {rank_pattern: {layer.0.query: 4}, alpha_pattern: {'.*key': 3}}\n"
    recipe = load("lora.rank_pattern={layer.1.query: 6}", text=text)
    assert recipe.lora.rank_pattern == {"layer.0.query": 4, "layer.1.query": 6}
    assert recipe.lora.alpha_pattern == {".*key": 3.0}
    (tmp_path / "again.yaml").write_text(recipe.text)
    assert load_recipe(str(tmp_path / "again.yaml")).lora == recipe.lora


def test_the_defaults_are_plain_lora():
    assert json.loads(json.dumps(vars(LoraConfig()))) == {
        "rank": 8,
        "alpha": 16,
        "dropout": 0.05,
        "target_modules": "all-linear",
        "exclude_modules": None,
        "layers_to_transform": None,
        "rank_pattern": {},
        "alpha_pattern": {},
        "init_lora_weights": "default",
        "init_head_weights": "linear_probe",
        "use_rslora": False,
        "use_dora": False,
        "bias": "none",
        "modules_to_save": None,
        "lora_plus_ratio": None,
    }
