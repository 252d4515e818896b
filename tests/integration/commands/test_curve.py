"""`curve`: runs with more and more training rows, resumed, and refused where they do not fit."""

import json

import pytest

import lora_tune.run
from lora_tune.cli import main


@pytest.fixture
def recipe(small_recipe, skip_reload_check):
    return small_recipe


def curve(recipe, folder, *words):
    return main(["curve", str(recipe), "--output", str(folder), *words])


def test_an_interrupted_curve_is_resumed(recipe, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "curve"
    trained = []
    run_recipe = lora_tune.run.run_recipe

    def interrupt_at_thirty(recipe, **more):
        trained.append(recipe.data.train_rows)
        if recipe.data.train_rows == 30 and trained.count(30) == 1:
            raise KeyboardInterrupt
        return run_recipe(recipe, **more)

    monkeypatch.setattr(lora_tune.run, "run_recipe", interrupt_at_thirty)
    assert curve(recipe, folder, "--rows", "16,30,48") == 130
    assert sorted(path.name for path in folder.iterdir()) == ["16", "curve.html"]
    assert curve(recipe, folder, "--rows", "16,30,48") == 0
    assert trained == [16, 30, 30, 48]
    shown = capsys.readouterr().out
    assert f"16 rows: finished before, in {folder}/16" in shown
    assert "From 16 to 48 rows, 3 points on the same 32 test rows, accuracy per doubling" in shown
    assert sorted(path.name for path in folder.iterdir()) == ["16", "30", "48", "curve.html"]
    page = (folder / "curve.html").read_text()
    assert "TF-IDF" in page
    assert "<svg" in page
    for count in (16, 30, 48):
        data = json.loads((folder / str(count) / "data.json").read_text())
        assert data["splits"]["train"]["rows"] == count


def test_runs_with_another_recipe_or_other_rows_are_refused(recipe, tmp_path, capsys):
    folder = tmp_path / "curve"
    assert curve(recipe, folder, "--rows", "16") == 0
    assert curve(recipe, folder, "--rows", "16", "lora.rank=2") == 2
    assert "was made with other settings (its recipe.yaml differs)" in capsys.readouterr().err
    environment = json.loads((folder / "16" / "environment.json").read_text())
    environment["data_fingerprint"] = "0" * 64
    (folder / "16" / "environment.json").write_text(json.dumps(environment))
    assert curve(recipe, folder, "--rows", "16") == 2
    assert "was made with other rows" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("counts", "words"), [("49", "--rows: 49 of 48 training"), ("1,9", "1 of 48")]
)
def test_more_rows_than_there_are_are_refused(recipe, tmp_path, capsys, counts, words):
    assert curve(recipe, tmp_path / "curve", "--rows", counts) == 2
    assert words in capsys.readouterr().err
