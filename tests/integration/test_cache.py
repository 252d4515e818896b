"""What was computed before from the same content is not computed again, and is the same."""

import json
import subprocess
import sys

import numpy as np
import pytest
import yaml

from lora_tune import cache, data, ladder
from lora_tune.cache import hash_rows, pack, recall, unpack


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def made(monkeypatch):
    """Kinds of content that were made, not recalled."""
    kinds = []

    def watch(kind, key, make):
        def make_watched():
            kinds.append(kind)
            return make()

        return recall(kind, key, make_watched)

    monkeypatch.setattr(data, "recall", watch)
    monkeypatch.setattr(ladder, "recall", watch)
    return kinds


def results(run):
    compared = json.loads((run / "comparison.json").read_text())
    for rung in compared["rungs"]:
        del rung["train_seconds"]
    del compared["train_seconds"]
    weights = (run / "adapter" / "adapter_model.safetensors").read_bytes()
    return compared["rungs"], compared["pairs"], compared["base"], weights


def test_a_second_run_tokenises_nothing_and_does_not_ask_the_base(run_tiny, made):
    first = run_tiny()
    assert sorted(made) == ["features"] * 3 + ["tokens"] * 3
    made.clear()
    second = run_tiny()
    assert made == []
    assert results(first) == results(second)
    head = [
        next(
            r
            for r in json.loads((run / "comparison.json").read_text())["rungs"]
            if r["rung"] == "head"
        )
        for run in (first, second)
    ]
    assert head[1]["train_seconds"] >= 0.5 * head[0]["train_seconds"], "what it took is still told"


def test_a_second_process_recalls_what_the_first_kept(folder, bases, rows, tmp_path):
    recipe = {
        "model": {"name": str(bases["bert-base-cased"])},
        "data": {"source": str(rows), "labels": ["negative", "positive"], "max_length": 64},
        "training": {"num_train_epochs": 1},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    words = [sys.executable, "-m", "lora_tune", "train", str(tmp_path / "tiny.yaml"), "--output"]
    kept = []
    for number in range(2):
        subprocess.run([*words, str(tmp_path / str(number))], check=True, capture_output=True)
        kept.append(sorted(path.relative_to(folder) for path in folder.rglob("*.npz")))
    assert sorted(path.parts[0] for path in kept[0]) == ["features"] * 3 + ["tokens"] * 3
    assert kept[1] == kept[0]


def test_other_content_is_computed(run_tiny, made):
    run_tiny()
    made.clear()
    run_tiny(overrides=["data.max_length=32"])
    assert sorted(made) == ["features"] * 3 + ["tokens"] * 3
    made.clear()
    run_tiny(overrides=["training.seed=7"])  # the head is drawn anew
    assert made == ["features"] * 3
    made.clear()
    run_tiny(overrides=["lora.rank=2"])
    assert made == []


def test_a_damaged_file_is_made_again(folder, run_tiny, made):
    first = run_tiny()
    for path in folder.glob("*/*.npz"):
        path.write_bytes(path.read_bytes()[:-9])
    made.clear()
    second = run_tiny()
    assert len(made) == 6
    assert results(first) == results(second)


def test_rows_of_unequal_length_come_back():
    rows = [np.arange(3), np.arange(1), np.array([7, 7])]
    assert [row.tolist() for row in unpack("ids", pack("ids", rows))] == [[0, 1, 2], [0], [7, 7]]
    assert unpack("labels", pack("labels", [3, 1])) == [3, 1]
    assert hash_rows({"a": [[1, 2], [3]]}) != hash_rows({"a": [[1], [2, 3]]})


def test_an_empty_variable_keeps_none(monkeypatch, tmp_path):
    monkeypatch.setenv(cache.VARIABLE, "")
    monkeypatch.setenv("HOME", str(tmp_path))
    recall("kind", {}, lambda: {"x": np.zeros(1)})
    assert not (tmp_path / ".cache").exists()


def test_what_was_used_longest_ago_goes(folder, monkeypatch):
    monkeypatch.setattr(cache, "MOST_BYTES", 3000)
    for number in range(4):
        recall("kind", {"n": str(number)}, lambda n=number: {"x": np.full(100, n, dtype=float)})
    assert len(list(folder.glob("kind/*.npz"))) == 2


def test_what_cannot_be_kept_costs_no_run(folder):
    folder.write_text("a file, where a folder should be")
    assert recall("kind", {}, lambda: {"x": np.ones(1)})["x"] == 1
