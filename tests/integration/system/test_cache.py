"""Cached results are not computed again, and are the same."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml

from lora_tune.data import token_cache
from lora_tune.evaluation import baselines
from lora_tune.system import cache
from lora_tune.system.cache import get_or_compute, get_or_write, hash_rows, pack, unpack
from tests.conftest import ROOT

PACKAGE = ROOT / "lora_tune"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def computed(monkeypatch):
    """The kinds of content that were computed, not found in the cache."""
    kinds = []

    def watch(function):
        def watched(kind, key, make, **options):
            def make_watched(*file):
                kinds.append(kind)
                return make(*file)

            return function(kind, key, make_watched, **options)

        return watched

    monkeypatch.setattr(token_cache, "get_or_write", watch(get_or_write))
    monkeypatch.setattr(baselines, "get_or_compute", watch(get_or_compute))
    return kinds


def results(run):
    compared = json.loads((run / "comparison.json").read_text())
    for result in compared["results"]:
        del result["train_seconds"]
    del compared["train_seconds"]
    weights = (run / "adapter" / "adapter_model.safetensors").read_bytes()
    return compared["results"], compared["comparisons"], compared["base"], weights


def test_a_second_run_does_not_tokenize_or_run_the_base_model(run_tiny, computed):
    first = run_tiny()
    assert sorted(computed) == ["features"] * 3 + ["tokens"] * 3
    computed.clear()
    second = run_tiny()
    assert computed == []
    assert results(first) == results(second)
    seconds = [
        next(
            result["train_seconds"]
            for result in json.loads((run / "comparison.json").read_text())["results"]
            if result["name"] == "linear_probe"
        )
        for run in (first, second)
    ]
    assert seconds[1] >= 0.5 * seconds[0], "the cached time counts"


def test_a_second_process_uses_the_cache_of_the_first(folder, bases, rows, tmp_path):
    recipe = {
        "model": {"name": str(bases["bert-base-cased"])},
        "data": {"source": str(rows), "labels": ["negative", "positive"], "max_length": 64},
        "training": {"num_train_epochs": 1},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    words = [sys.executable, "-m", "tests.train_unchecked", "train", tmp_path / "tiny.yaml"]
    cached = []
    for number in range(2):
        command = [*words, "--output", tmp_path / str(number)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        cached.append(sorted(path.relative_to(folder) for path in folder.rglob("*.[an]*")))
    assert sorted(path.parts[0] for path in cached[0]) == ["features"] * 3 + ["tokens"] * 3
    assert cached[1] == cached[0]


def test_changed_content_is_computed_again(run_tiny, computed):
    run_tiny()
    computed.clear()
    run_tiny(overrides=["data.max_length=32"])
    assert sorted(computed) == ["features"] * 3 + ["tokens"] * 3
    computed.clear()
    run_tiny(overrides=["training.seed=7"])  # another random head
    assert computed == ["features"] * 3
    computed.clear()
    run_tiny(overrides=["lora.rank=2"])
    assert computed == []


TOKENIZE = """
import sys
import lora_tune
from lora_tune.config.data import DataConfig
from lora_tune.data.splits import load_data
from lora_tune.evaluation.baselines import CODE
from lora_tune.system.cache import get_or_compute
from lora_tune.tasks import make_task
from transformers import AutoTokenizer

assert lora_tune.__file__.startswith(sys.argv[1])
config = DataConfig(source=sys.argv[2], labels=["negative", "positive"], max_length=64)
load_data(config, make_task("sequence_classification"), AutoTokenizer.from_pretrained(sys.argv[3]))
get_or_compute("features", {}, dict, code=CODE)
"""


def test_an_edit_invalidates_only_what_depends_on_the_edited_folder(folder, bases, rows, tmp_path):
    copy = tmp_path / "copy"
    ignored = shutil.ignore_patterns("__pycache__", "embedded")
    shutil.copytree(PACKAGE, copy / "lora_tune", ignore=ignored)
    words = [sys.executable, "-c", TOKENIZE, str(copy), str(rows), str(bases["bert-base-cased"])]
    environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}

    def computed_after_an_edit_of(*files):
        before = set(folder.rglob("*.[an]*"))
        for file in files:
            with (copy / "lora_tune" / file).open("a") as source:
                source.write("# An edit.\n")
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return sorted(path.parent.name for path in set(folder.rglob("*.[an]*")) - before)

    tokens, features = ["tokens"] * 3, ["features"]
    assert computed_after_an_edit_of() == features + tokens  # the first run
    assert computed_after_an_edit_of("report/tables.py", "training/trainer.py") == []
    assert computed_after_an_edit_of("evaluation/features.py") == features
    assert computed_after_an_edit_of("data/tokenization.py") == features + tokens
    assert computed_after_an_edit_of("system/cache.py") == features + tokens


def test_a_damaged_file_is_computed_again(folder, run_tiny, computed):
    first = run_tiny()
    for path in folder.glob("*/*.*"):
        path.write_bytes(path.read_bytes()[:-9])
    computed.clear()
    second = run_tiny()
    assert len(computed) == 6
    assert results(first) == results(second)


def test_rows_of_unequal_length_are_unpacked_as_packed():
    rows = [np.arange(3), np.arange(1), np.array([7, 7])]
    assert [row.tolist() for row in unpack("ids", pack("ids", rows))] == [[0, 1, 2], [0], [7, 7]]
    assert unpack("labels", pack("labels", [3, 1])) == [3, 1]
    assert hash_rows({"a": [[1, 2], [3]]}) != hash_rows({"a": [[1], [2, 3]]})


def test_an_empty_variable_disables_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv(cache.VARIABLE, "")
    monkeypatch.setenv("HOME", str(tmp_path))
    get_or_compute("kind", {}, lambda: {"x": np.zeros(1)}, code=("system",))
    assert not (tmp_path / ".cache").exists()


def test_the_least_recently_used_files_are_deleted(folder, monkeypatch):
    monkeypatch.setattr(cache, "MAX_BYTES", 3000)
    for number in range(4):
        get_or_compute(
            "kind",
            {"n": str(number)},
            lambda n=number: {"x": np.full(100, n, dtype=float)},
            code=("system",),
        )
    assert len(list(folder.glob("kind/*.npz"))) == 2


def test_a_cache_that_cannot_be_written_is_ignored(folder):
    folder.write_text("a file, where a folder should be")
    assert get_or_compute("kind", {}, lambda: {"x": np.ones(1)}, code=("system",))["x"] == 1
