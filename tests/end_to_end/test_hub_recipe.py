"""A recipe with a model and a dataset on the Hub, run unchanged with a Hub on loopback."""

import io
import itertools
import json
import shutil
import subprocess

import pytest

from lora_tune.tasks.recipes import load_recipe
from tests.conftest import ROOT
from tests.loopback_hub import LoopbackHub
from tests.tiny import make_base, reviews

RECIPE, IMDB = "distilbert_imdb_lora", "stanfordnlp/imdb"
WANTED = 1000  # rows of each split


def parquet(texts, labels):
    import pyarrow
    import pyarrow.parquet

    buffer = io.BytesIO()
    rows = pyarrow.table({"text": texts, "label": [int(label == "positive") for label in labels]})
    pyarrow.parquet.write_table(rows, buffer)
    return buffer.getvalue()


def dataset():
    """The embedded reviews; the test split is filled up with pairs of them."""
    (train, train_labels), (test, test_labels) = reviews("train"), reviews("test")
    spare = list(zip(train[WANTED:] + test, train_labels[WANTED:] + test_labels, strict=True))
    for label in ("negative", "positive"):
        texts = [text for text, its in spare if its == label]
        spare += [(f"{a} {b}", label) for a, b in itertools.pairwise(texts)]
    test, test_labels = zip(*spare[: WANTED // 2] + spare[-WANTED // 2 :], strict=True)
    return {
        "plain_text/train-00000-of-00001.parquet": parquet(train[:WANTED], train_labels[:WANTED]),
        "plain_text/test-00000-of-00001.parquet": parquet(test, test_labels),
        "README.md": b"---\nconfigs:\n- config_name: plain_text\n  data_files:\n"
        b"  - split: train\n    path: plain_text/train-*\n"
        b"  - split: test\n    path: plain_text/test-*\n---\n",
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    recipe = load_recipe(RECIPE)
    latest = ROOT / "runs" / RECIPE / "latest"
    before = latest.resolve()
    with LoopbackHub() as hub:
        hub.add(recipe.model.name, make_base(tmp_path_factory.mktemp("base"), recipe.model.name))
        hub.add(recipe.data.source, dataset(), kind="datasets")
        done = subprocess.run(
            ["make", "train", f"RECIPE={RECIPE}"],
            cwd=ROOT,
            env=hub.environment(tmp_path_factory.mktemp("cache")),
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    folder = latest.resolve()
    yield folder, done.stdout, hub
    # Deleted, since the base model is real in name only.
    shutil.rmtree(folder)
    latest.unlink()
    if before.exists():
        latest.symlink_to(before.name)
    elif not any(latest.parent.iterdir()):
        latest.parent.rmdir()


def test_it_trains_from_the_hub(run):
    folder, shown, hub = run
    comparison = json.loads((folder / "comparison.json").read_text())
    assert comparison["test_rows"] == WANTED
    assert "1000 test rows" in shown
    assert len((folder / "history.jsonl").read_text().splitlines()) == 10
    requested = {path for _, path, _ in hub.requests}
    for name in ("distilbert-base-uncased", "stanfordnlp/imdb"):
        assert any(name in path for path in requested)


def test_model_and_data_revisions_are_recorded(run):
    folder, _, hub = run
    environment = json.loads((folder / "environment.json").read_text())
    manifest = json.loads((folder / "adapter" / "manifest.json").read_text())
    model, data = hub.repos["models", "distilbert-base-uncased"], hub.repos["datasets", IMDB]
    assert manifest["base"]["name"] == "distilbert-base-uncased"
    assert manifest["base"]["revision"] == model.history("main")[-1][0]
    assert environment["data_revision"] == data.history("main")[-1][0]
    card = (folder / "adapter" / "README.md").read_text()
    assert "base_model: distilbert-base-uncased" in card
    assert f"type: {IMDB}" in card


def test_the_real_adapter_stays_under_three_megabytes():
    """Its exact size, from the real configuration."""
    from lora_tune.commands.params import count_recipe

    name = load_recipe(RECIPE).model.name
    place = ROOT / "benchmarks" / "base_configs" / name
    assert count_recipe(load_recipe(RECIPE, [f"model.name={place}"])).adapter_bytes < 3_000_000
