"""`evaluate` makes a run's comparison again, and refuses rows that are no longer the run's."""

import json
import shutil

import pytest

from lora_tune.assessment import assess_adapter
from lora_tune.cli import main
from lora_tune.errors import DataError, RecipeError
from tests.integration.conftest import BASES


def assess(adapter, **more):
    return assess_adapter(adapter, show=lambda _: None, **more)


@pytest.mark.parametrize("base", BASES)
def test_it_is_the_runs_own_comparison(run_tiny, base):
    """Base included: its fresh head is drawn again from the seed, not read from a file."""
    folder = run_tiny(base, training={"learning_rate": 0.01, "seed": 5})
    trained = json.loads((folder / "comparison.json").read_text())
    again = assess(folder / "adapter")
    assert again.base == pytest.approx(trained["base"], abs=1e-6)
    assert again.adapted == pytest.approx(trained["adapted"], abs=1e-6)
    interval = again.difference_interval  # None where base and adapter have the same rows right
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
    assert "Nothing tells whether rows of" in shown
    assert json.loads(output.read_text())["test_rows"] == 20


def test_rows_that_have_changed_are_not_taken_for_the_runs(run_tiny, rows, tmp_path):
    place = shutil.copytree(rows, tmp_path / "rows")
    adapter = run_tiny(data={"source": str(place)}) / "adapter"
    assess(adapter)
    text = (place / "train.jsonl").read_text()
    (place / "train.jsonl").write_text(text.replace("the", "teh", 1))
    with pytest.raises(DataError, match="are no longer those of the run, so some may have been"):
        assess(adapter)
    shutil.rmtree(place)
    with pytest.raises(DataError, match=r"no such file or folder .*; or give labelled rows"):
        assess(adapter)
    assert assess(adapter, data=rows / "test.jsonl").test_rows == 32


def test_a_file_with_other_columns_or_labels(run_tiny, tmp_path):
    adapter = run_tiny() / "adapter"
    path = tmp_path / "rows.csv"
    path.write_text("review,label\nA film.,positive\n")
    with pytest.raises(DataError, match=r"data.text: .*rows.csv has no column 'text'"):
        assess(adapter, data=path)
    path.write_text("text,label\nA film.,good\n")
    with pytest.raises(DataError, match="1 of 1 labels are not among negative, positive"):
        assess(adapter, data=path)
    with pytest.raises(DataError, match="no such file"):
        assess(adapter, data=tmp_path / "nowhere.csv")


def test_a_variable_that_is_not_set_here(run_tiny, rows, monkeypatch):
    """Needed to find the run's own rows; not for others."""
    monkeypatch.setenv("PLACE_OF_ROWS", str(rows))
    adapter = run_tiny(data={"source": "${oc.env:PLACE_OF_ROWS}"}) / "adapter"
    assess(adapter)
    monkeypatch.delenv("PLACE_OF_ROWS")
    with pytest.raises(RecipeError, match=r"its recipe: data.source.*PLACE_OF_ROWS"):
        assess(adapter)
    assert assess(adapter, data=rows / "test.jsonl").test_rows == 32


def test_the_rest_of_the_recipe_is_not_needed(run_tiny, rows, monkeypatch, tmp_path):
    monkeypatch.setenv("A_TEXT", "A film of its own.")
    adapter = run_tiny(overrides=["examples=['${oc.env:A_TEXT}']"]) / "adapter"
    monkeypatch.delenv("A_TEXT")
    odd = tmp_path / "[fold: 1].jsonl"
    shutil.copy(rows / "test.jsonl", odd)
    assert assess(adapter).test_rows == assess(adapter, data=odd).test_rows == 32


def test_a_strangers_recipe_cannot_read_a_secret(run_tiny, rows, monkeypatch):
    monkeypatch.setenv("A_TOKEN", str(rows))
    adapter = run_tiny(data={"source": "${oc.env:A_TOKEN}"}) / "adapter"
    with pytest.raises(RecipeError, match="its recipe reads the secret A_TOKEN; give labelled"):
        assess(adapter)
    assert assess(adapter, data=rows / "test.jsonl").test_rows == 32
