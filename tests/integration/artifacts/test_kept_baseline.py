"""A run keeps a baseline that LoRA does not beat, and a fresh process predicts as in the run."""

import json
import os
import shutil
import string
from dataclasses import asdict

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lora_tune.artifacts.manifest import record_files, render_manifest
from lora_tune.artifacts.reload_check import check_reload, record_outputs
from lora_tune.artifacts.saved_adapter import load_adapter
from lora_tune.artifacts.saved_model import find_model
from lora_tune.cli import main
from lora_tune.errors import ArtifactError
from tests.command_server import CommandServer

WEIGHTS = "baseline.safetensors"


@pytest.fixture(scope="module")
def probe_run(run_tiny, tmp_path_factory):
    """A run where no word occurs twice, so that only letters tell the classes apart."""
    folder = tmp_path_factory.mktemp("letters")
    random = np.random.default_rng(0)
    for split, count in (("train", 80), ("test", 40)):
        lines = []
        for row in range(count):
            letters = list([string.ascii_lowercase[:13], string.ascii_lowercase[13:]][row % 2])
            words = ["".join(random.choice(letters, 9)) for _ in range(6)]
            label = ["negative", "positive"][row % 2]
            lines.append(json.dumps({"text": " ".join(words), "label": label}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines))
    training = {"learning_rate": 1e-6, "num_train_epochs": 1}
    return run_tiny(data={"source": str(folder)}, training=training, reload=True)


def read_run(folder):
    comparison = json.loads((folder / "comparison.json").read_text())
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    return comparison, rows


def test_the_command_line_gives_the_runs_own_predictions(plain_run, probe_run, rows, tmp_path):
    """In a fresh process, for both kinds of baselines."""
    sources = {"tfidf": (plain_run, rows), "linear_probe": (probe_run, None)}
    with CommandServer(dict(os.environ)) as server:
        for name, (run, source) in sources.items():
            comparison, predicted = read_run(run)
            assert comparison["recommended"] == comparison["baseline"]["name"] == name
            source = source or json.loads((run / "environment.json").read_text())["data"]
            words = ["--input", f"{source}/test.jsonl", "--output", tmp_path / f"{name}.jsonl"]
            done = server.run("predict", run / "baseline", *words)
            assert done.returncode == 0, done.stderr
            lines = (tmp_path / f"{name}.jsonl").read_text().splitlines()
            labels = [json.loads(line)["label"] for line in lines]
            assert labels == [row["predictions"][name] for row in predicted]
            assert len(set(labels)) == 2
            done = server.run("evaluate", run / "baseline", "--output", tmp_path / "again.json")
            assert done.returncode == 0, done.stderr
            again = json.loads((tmp_path / "again.json").read_text())
            for system, metrics in ((name, again["adapted"]), ("majority", again["base"])):
                trained = next(s for s in comparison["results"] if s["name"] == system)
                assert metrics == pytest.approx(trained["metrics"], abs=1e-6)


def test_a_run_reports_the_reload_check_of_its_baseline(probe_run):
    comparison, _ = read_run(probe_run)
    baseline = comparison["baseline"]
    assert baseline["reload"]["rows"] == 40
    assert baseline["reload"]["largest_logit_difference"] < 1e-4
    assert {path.name for path in (probe_run / "baseline").iterdir()} >= {
        "README.md",
        "baseline.json",
        WEIGHTS,
        "manifest.json",
        "tokenizer.json",
    }
    card = (probe_run / "baseline" / "README.md").read_text()
    assert "logistic regression on the pooled features of" in card


def test_the_report_and_the_adapters_card_say_what_to_use(plain_run):
    line = "LoRA does not beat the TF-IDF baseline (accuracy 0."
    assert f"Use baseline: {line}" in (plain_run / "report.html").read_text()
    assert f"Use the TF-IDF baseline: {line}" in (plain_run / "adapter" / "README.md").read_text()


def edit(folder, change):
    """Change the content of baseline.json, and its record in the manifest."""
    path = folder / "baseline.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    update_manifest(folder, lambda manifest: None)


def update_manifest(folder, change):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {name: asdict(record) for name, record in record_files(folder).items()}
    change(manifest)
    (folder / "manifest.json").write_text(render_manifest(manifest))


def test_a_baseline_that_predicts_otherwise_is_found(plain_run, tmp_path):
    """Its terms are in another order, although its arrays are those of the run."""
    folder = shutil.copytree(plain_run / "baseline", tmp_path / "baseline")
    recorded = record_outputs(load_adapter(folder), ["A fine film.", "A dull film that I left."])
    edit(folder, lambda content: content["terms"].reverse())
    with pytest.raises(ArtifactError, match="gives other outputs in a fresh process: a logit"):
        check_reload(folder, recorded)


def flip_a_byte(folder):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)


def write_nan(folder):
    arrays = load_file(folder / WEIGHTS)
    arrays["weights"][0, 0] = np.nan
    save_file(arrays, folder / WEIGHTS)


def lose_an_array(folder):
    save_file({"bias": load_file(folder / WEIGHTS)["bias"]}, folder / WEIGHTS)


def change_a_term(folder):
    text = (folder / "baseline.json").read_text()
    (folder / "baseline.json").write_text(text.replace('"about"', '"abort"'))


def delete_the_settings(folder):
    (folder / "baseline.json").unlink()


def use_a_pickle(folder):
    (folder / WEIGHTS).rename(folder / "baseline.pkl")
    update_manifest(folder, lambda manifest: None)


def name_another_kind(folder):
    update_manifest(folder, lambda manifest: manifest.update(kind="svm"))


def forget_the_base_model(folder):
    update_manifest(folder, lambda manifest: manifest.update(kind="linear_probe"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flip_a_byte, "was changed since training"),
        (write_nan, "its tensor weights contains NaN or infinite values"),
        (lose_an_array, "lacks the tensor classes"),
        (change_a_term, "baseline.json: was changed since training"),
        (delete_the_settings, "baseline.json: does not exist, but manifest.json lists it"),
        (use_a_pickle, "'baseline.pkl', which is not a file of an adapter or a baseline"),
        (name_another_kind, "found the kind 'svm', expected adapter, tfidf, linear_probe"),
        (forget_the_base_model, "damaged: it does not name the base model"),
    ],
)
def test_a_changed_baseline_is_refused(plain_run, tmp_path, damage, words):
    folder = shutil.copytree(plain_run / "baseline", tmp_path / "baseline")
    find_model(folder)
    damage(folder)
    with pytest.raises(ArtifactError, match=words) as caught:
        find_model(folder)
    assert "\n" not in str(caught.value)


def test_a_baseline_is_not_merged(plain_run, tmp_path, capsys):
    words = ["merge", str(plain_run / "baseline"), "--output", str(tmp_path / "merged")]
    assert main(words) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert "found the TF-IDF baseline, which has no LoRA weights, expected an adapter" in message
    assert main(["predict", str(plain_run), "--text", "x"]) == 2
    assert f"its baseline {plain_run}/baseline" in capsys.readouterr().err


def test_keep_lora_saves_no_baseline(small_recipe, skip_reload_check, tmp_path, capsys):
    words = ["train", str(small_recipe), "--keep", "lora", "--output", str(tmp_path / "run")]
    assert main(words) == 0
    comparison, _ = read_run(tmp_path / "run")
    assert comparison["recommended"] == "tfidf"
    assert comparison["baseline"] is None
    assert not (tmp_path / "run" / "baseline").exists()
    assert "Use the TF-IDF baseline: LoRA does not beat" in capsys.readouterr().out
