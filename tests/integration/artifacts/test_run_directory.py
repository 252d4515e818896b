"""The files of a run directory, and what a run shows."""

import json
import re

import numpy as np
import pytest

from lora_tune.artifacts.saved_adapter import load_adapter
from lora_tune.errors import DataError


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_directory_holds_the_documented_files(plain_run):
    assert sorted(path.name for path in plain_run.iterdir()) == [
        "adapter",
        "baseline",
        "comparison.json",
        "data.json",
        "environment.json",
        "history.jsonl",
        "predictions.jsonl",
        "recipe.yaml",
        "report.html",
        "training_loss.jsonl",
        "training_rows.json",
    ]
    assert {path.name for path in (plain_run / "adapter").iterdir()} >= {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "labels.json",
        "tokenizer.json",
    }
    weights = (plain_run / "adapter" / "adapter_model.safetensors").read_bytes()
    comparison = json.loads((plain_run / "comparison.json").read_text())
    assert comparison["test_rows"] == 32
    assert comparison["adapter_bytes"] == len(weights)
    for side in ("base", "adapted"):
        assert set(comparison[side]) == {"accuracy", "macro_f1", "loss"}
        rows = read_lines(plain_run / "predictions.jsonl")
        right = np.mean([row[side] == row["label"] for row in rows])
        assert comparison[side]["accuracy"] == pytest.approx(right)
        for row in rows:
            probabilities = row[f"{side}_probabilities"]
            assert max(probabilities, key=probabilities.get) == row[side]
    assert comparison["difference"] == pytest.approx(
        comparison["adapted"]["accuracy"] - comparison["base"]["accuracy"]
    )
    assert [row["epoch"] for row in read_lines(plain_run / "history.jsonl")] == [1, 2]
    assert [example["text"] for example in comparison["examples"]] == [
        "A fine film.",
        "A dull film.",
    ]


def test_examples_of_two_columns(run_tiny, rows, tmp_path):
    for split in ("train", "test"):
        lines = map(json.loads, (rows / f"{split}.jsonl").read_text().splitlines())
        pairs = [row | {"claim": f"It is {row['text'][:9]}"} for row in lines]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    data = f"data.source={tmp_path}"
    wrong = "examples=[{text: A fine film.}, {claim: It is dull.}]"
    with pytest.raises(DataError, match=r"examples, row 0 .*: found the columns text, expected"):
        run_tiny(overrides=[data, "data.text_pair=claim", wrong])
    right = "examples=[{text: A fine film., claim: It is dull.}]"
    run = run_tiny(overrides=[data, "data.text_pair=claim", right, "training.num_train_epochs=1"])
    (example,) = json.loads((run / "comparison.json").read_text())["examples"]
    assert example["text"] == "A fine film.\nIt is dull."
    card = (run / "adapter" / "README.md").read_text()
    assert "--input rows.jsonl" in card
    row = {"text": "A fine film.", "claim": "It is dull."}
    assert load_adapter(run / "adapter").predict([row])[0].describe() == example["adapted"]


def test_what_a_run_shows(run_tiny):
    shown = []
    run_tiny(show=shown.append)
    data, adapter, *epochs, warning, comparison, examples, place, report = shown
    assert re.search(r"^train +48 +24 +24 ", data, re.MULTILINE)
    assert "No test text occurs in train or validation." in data
    assert "q_lin" in adapter
    assert "Trainable:" in adapter
    assert [line.split("  ")[0] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    kept = r"Kept: the weights of the last step, 12 \(epoch 2\).*\nUnderfitting: "
    assert re.match(kept, warning)
    assert re.search(r"^(Worst class|No test row is misclassified)", comparison, re.MULTILINE)
    assert "macro f1" in comparison
    assert "A fine film." in examples
    assert (place[:9], report[:8]) == ("Adapter: ", "Report: ")


def test_a_secret_in_an_interpolation_is_not_written_or_shown(run_tiny, rows, monkeypatch):
    monkeypatch.setenv("SECRET_PLACE", str(rows))
    shown = []
    folder = run_tiny(data={"source": "${oc.env:SECRET_PLACE}"}, show=shown.append)
    assert "${oc.env:SECRET_PLACE}" in (folder / "recipe.yaml").read_text()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 8
    assert not [path for path in files if str(rows).encode() in path.read_bytes()]
    assert str(rows) not in "".join(shown)
