"""Tiny models, and a quick way to run a recipe over them."""

import json

import pytest
import yaml

from lora_tune.recipe_file import load_recipe
from lora_tune.reload import ReloadCheck
from lora_tune.run import run_recipe as run
from tests.tiny import make_base, reviews

BASES = ["distilbert-base-uncased", "bert-base-cased", "roberta-base", "gpt2"]
NEWER_BASES = [
    "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T",
    "meta-llama/Llama-3.1-8B",
    "Qwen/Qwen2.5-1.5B-Instruct",
    "tiiuae/falcon-7b",
    "microsoft/deberta-v3-base",
    "answerdotai/ModernBERT-base",
]


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """A shrunken base of every recipe's architecture."""
    root = tmp_path_factory.mktemp("bases")
    return {name: make_base(root / name, name) for name in BASES + NEWER_BASES}


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    """A folder of 64 training and 32 test reviews."""
    folder = tmp_path_factory.mktemp("rows")
    for split, count in (("train", 64), ("test", 32)):
        pairs = list(zip(*reviews(split), strict=True))
        chosen = [p for p in pairs if p[1] == "negative"][: count // 2]
        chosen += [p for p in pairs if p[1] == "positive"][: count // 2]
        lines = [json.dumps({"text": text, "label": label}) + "\n" for text, label in chosen]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture(scope="session")
def run_tiny(bases, rows, tmp_path_factory):
    """Run a small recipe over a tiny base; returns the run directory."""

    def run_recipe(
        base="distilbert-base-uncased", overrides=(), show=lambda _: None, reload=False, **sections
    ):
        folder = tmp_path_factory.mktemp("run")
        recipe = {
            "model": {"name": str(bases[base])},
            "data": {
                "source": str(rows),
                "labels": ["negative", "positive"],
                "validation": {"fraction": 0.25},
                "max_length": 64,
            },
            "training": {"num_train_epochs": 2, "per_device_train_batch_size": 8},
            "examples": ["A fine film.", "A dull film."],
        }
        for name, section in sections.items():
            recipe[name] = recipe.get(name, {}) | section
        (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe))
        loaded = load_recipe(str(folder / "tiny.yaml"), overrides)
        with pytest.MonkeyPatch.context() as patch:
            if not reload:  # a fresh process takes seconds; what it is for is tested in test_reload
                patch.setattr("lora_tune.run.check_reload", lambda *_: ReloadCheck(0, 0.0))
            return run(loaded, output=folder / "out", show=show)

    return run_recipe
