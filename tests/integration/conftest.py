"""Tiny base models, and a quick way to run a recipe with them."""

import gc
import json

import pytest
import yaml

from lora_tune.artifacts.reload_check import ReloadCheck
from lora_tune.run import run_recipe as run
from lora_tune.tasks.recipes import load_recipe
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

# A run collects garbage several times: without the objects of the imported libraries, that takes
# milliseconds instead of most of a second.
gc.freeze()


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """A tiny base model of the architecture of every recipe."""
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
def small_recipe(bases, rows, tmp_path_factory):
    """The file of a small recipe with a tiny base model."""
    recipe = {
        "model": {"name": str(bases["distilbert-base-uncased"])},
        "data": {"source": str(rows), "max_length": 64, "validation": {"fraction": 0.25}},
        "training": {
            "num_train_epochs": 1,
            "per_device_train_batch_size": 8,
            "precision": "float32",  # on every processor, since numbers are compared
        },
    }
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture
def skip_reload_check(monkeypatch):
    """Skip the reload check, whose process takes seconds; test_reload_check.py tests it."""
    monkeypatch.setattr("lora_tune.run.check_reload", lambda *_: ReloadCheck(0, 0.0))


@pytest.fixture(scope="session")
def run_tiny(bases, rows, tmp_path_factory):
    """Run a small recipe with a tiny base model; returns the run directory."""

    def run_recipe(
        base="distilbert-base-uncased",
        overrides=(),
        show=lambda _: None,
        reload=False,
        report=False,
        metrics=(),
        **sections,
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
        if not {"bf16", "fp16"} & recipe["training"].keys():
            # On every processor, since numbers are compared.
            recipe["training"].setdefault("precision", "float32")
        (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe))
        loaded = load_recipe(str(folder / "tiny.yaml"), overrides)
        with pytest.MonkeyPatch.context() as patch:
            if not reload:  # a fresh process takes seconds; test_reload_check.py tests it
                patch.setattr("lora_tune.run.check_reload", lambda *_: ReloadCheck(0, 0.0))
            if not report:  # a second; test_page.py and test_tasks.py test it
                patch.setattr("lora_tune.run.write_report", lambda _: None)
            return run(loaded, output=folder / "out", show=show, metrics=metrics)

    return run_recipe


@pytest.fixture(scope="session")
def plain_run(run_tiny):
    """The directory of a run with the defaults of `run_tiny` and a report; read only."""
    return run_tiny(report=True)
