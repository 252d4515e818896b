"""`evaluate` repeats a run's comparison, and refuses rows that have changed since the run."""

import json
import shutil

import pytest

from lora_tune.cli import main
from lora_tune.commands.evaluate import evaluate_adapter
from lora_tune.errors import DataError, RecipeError
from tests.integration.conftest import BASES


def evaluate(adapter, **more):
    return evaluate_adapter(adapter, show=lambda _: None, **more)


@pytest.mark.parametrize("base", BASES)
def test_it_repeats_the_runs_comparison(run_tiny, base):
    """With the base model, whose untrained head is drawn again from the seed."""
    folder = run_tiny(base, training={"learning_rate": 0.01, "seed": 5})
    trained = json.loads((folder / "comparison.json").read_text())
    again = evaluate(folder / "adapter")
    assert again.base == pytest.approx(trained["base"], rel=1e-6, abs=1e-6)
    assert again.adapted == pytest.approx(trained["adapted"], rel=1e-6, abs=1e-6)
    interval = (
        again.difference_interval
    )  # None where base model and adapter predict the same rows correctly
    assert (interval and list(interval)) == trained["difference_interval"]
    assert again.adapted["loss"] != pytest.approx(again.base["loss"], abs=1e-6)


def test_other_rows(run_tiny, rows, tmp_path, capsys):
    adapter = run_tiny() / "adapter"
    lines = (rows / "test.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "more.jsonl").write_text("".join(lines[:10] + lines[-10:]))
    output = tmp_path / "comparison.json"
    words = ["evaluate", str(adapter), "--data", str(tmp_path / "more.jsonl")]
    assert main([*words, "--output", str(output)]) == 0
    shown = capsys.readouterr().out
    assert "20 test rows" in shown
    assert "The adapter was trained or selected on" not in shown, "these are its test rows"
    assert json.loads(output.read_text())["test_rows"] == 20


def test_changed_rows_are_refused(run_tiny, rows, tmp_path):
    place = shutil.copytree(rows, tmp_path / "rows")
    adapter = run_tiny(data={"source": str(place)}) / "adapter"
    evaluate(adapter)
    text = (place / "train.jsonl").read_text()
    (place / "train.jsonl").write_text(text.replace("the", "teh", 1))
    with pytest.raises(
        DataError, match="its rows have changed since the run, so the adapter may have been"
    ):
        evaluate(adapter)
    shutil.rmtree(place)
    with pytest.raises(
        DataError, match=r"no such file or folder .*; or name a file of labeled rows"
    ):
        evaluate(adapter)
    assert evaluate(adapter, data=rows / "test.jsonl").test_rows == 32


def test_a_file_with_other_columns_or_labels(run_tiny, tmp_path):
    adapter = run_tiny() / "adapter"
    path = tmp_path / "rows.csv"
    path.write_text("review,label\nA film.,positive\n")
    with pytest.raises(DataError, match=r"data.text: .*rows.csv has no column 'text'"):
        evaluate(adapter, data=path)
    path.write_text("text,label\nA film.,good\n")
    with pytest.raises(DataError, match="1 of 1 labels are not among negative, positive"):
        evaluate(adapter, data=path)
    with pytest.raises(DataError, match="no such file"):
        evaluate(adapter, data=tmp_path / "nowhere.csv")


def test_a_variable_that_is_not_set_here(run_tiny, rows, monkeypatch):
    """It is needed for the run's own rows, not for others."""
    monkeypatch.setenv("PLACE_OF_ROWS", str(rows))
    adapter = run_tiny(data={"source": "${oc.env:PLACE_OF_ROWS}"}) / "adapter"
    evaluate(adapter)
    monkeypatch.delenv("PLACE_OF_ROWS")
    with pytest.raises(RecipeError, match=r"its recipe: data.source.*PLACE_OF_ROWS"):
        evaluate(adapter)
    assert evaluate(adapter, data=rows / "test.jsonl").test_rows == 32


def test_other_parts_of_the_recipe_are_not_needed(run_tiny, rows, monkeypatch, tmp_path):
    monkeypatch.setenv("A_TEXT", "A film of its own.")
    adapter = run_tiny(overrides=["examples=['${oc.env:A_TEXT}']"]) / "adapter"
    monkeypatch.delenv("A_TEXT")
    odd = tmp_path / "[fold: 1].jsonl"
    shutil.copy(rows / "test.jsonl", odd)
    assert evaluate(adapter).test_rows == evaluate(adapter, data=odd).test_rows == 32


def test_a_downloaded_recipe_cannot_read_a_secret(run_tiny, rows, monkeypatch):
    monkeypatch.setenv("A_TOKEN", str(rows))
    adapter = run_tiny(data={"source": "${oc.env:A_TOKEN}"}) / "adapter"
    with pytest.raises(RecipeError, match="its recipe reads the secret A_TOKEN; give labeled"):
        evaluate(adapter)
    assert evaluate(adapter, data=rows / "test.jsonl").test_rows == 32
