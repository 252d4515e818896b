"""Runs on more and more rows: nested, resumed, told apart; and finished runs compared."""

import json

import pytest

from lora_tune.cli import main
from lora_tune.data import load_data
from lora_tune.recipe import DataConfig
from lora_tune.reload import ReloadCheck
from lora_tune.tasks import find_task
from tests.parts import Parts

RECIPE = """
model: {name: BASE}
data: {source: ROWS, max_length: 64, validation: {fraction: 0.25}}
training: {num_train_epochs: 1, per_device_train_batch_size: 8}
"""


@pytest.fixture
def recipe(bases, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("lora_tune.run.check_reload", lambda *_: ReloadCheck(0, 0.0))
    path = tmp_path / "small.yaml"
    base = bases["distilbert-base-uncased"]
    path.write_text(RECIPE.replace("BASE", str(base)).replace("ROWS", str(rows)))
    return path


def curve(recipe, folder, *words):
    return main(["curve", str(recipe), "--output", str(folder), *words])


def test_fewer_rows_lie_within_more_and_the_others_stay(bases, rows):
    tokenizer = Parts(bases["distilbert-base-uncased"]).tokenizer
    few, more, every = (
        load_data(
            DataConfig(source=str(rows), train_rows=count),
            find_task("sequence_classification"),
            tokenizer,
        )
        for count in (10, 20, None)
    )
    assert few.train.rows.places == more.train.rows.places[:10]
    assert set(more.train.rows.places) < set(every.train.rows.places)
    for split in ("validation", "test"):
        places = [data.splits[split].rows.places for data in (few, more, every)]
        assert places[0] == places[1] == places[2]


def test_a_curve_is_resumed_and_nothing_is_trained_twice(recipe, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "curve"
    trained = []
    import lora_tune.curve

    run_recipe = lora_tune.curve.run_recipe

    def stop_at_thirty(recipe, **more):
        trained.append(recipe.data.train_rows)
        if recipe.data.train_rows == 30 and trained.count(30) == 1:
            raise KeyboardInterrupt
        return run_recipe(recipe, **more)

    monkeypatch.setattr("lora_tune.curve.run_recipe", stop_at_thirty)
    assert curve(recipe, folder, "--rows", "16,30,48") == 130
    assert sorted(path.name for path in folder.iterdir()) == ["16", "curve.html"]
    assert curve(recipe, folder, "--rows", "16,30,48") == 0
    assert trained == [16, 30, 30, 48]
    shown = capsys.readouterr().out
    assert f"16 rows: done before, in {folder}/16" in shown
    assert "From 30 to 48 rows, on the same 32 test rows: LoRA" in shown
    assert sorted(path.name for path in folder.iterdir()) == ["16", "30", "48", "curve.html"]
    page = (folder / "curve.html").read_text()
    assert "words alone" in page
    assert "<svg" in page
    for count in (16, 30, 48):
        data = json.loads((folder / str(count) / "data.json").read_text())
        assert data["splits"]["train"]["rows"] == count


def test_runs_of_another_recipe_or_other_rows_are_not_taken(recipe, rows, tmp_path, capsys):
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
def test_rows_that_are_not_there(recipe, tmp_path, capsys, counts, words):
    assert curve(recipe, tmp_path / "curve", "--rows", counts) == 2
    assert words in capsys.readouterr().err


def test_runs_are_compared_on_the_same_rows_only(recipe, tmp_path, capsys):
    for rank in (1, 2, 4):
        words = ["train", str(recipe), f"lora.rank={rank}", "training.learning_rate=0.01"]
        assert main([*words, "--output", str(tmp_path / str(rank))]) == 0
    words = ["train", str(recipe), "data.test.samples=20", "--output", str(tmp_path / "other")]
    assert main(words) == 0
    capsys.readouterr()
    runs = [str(tmp_path / str(rank)) for rank in (1, 2, 4)]
    page = tmp_path / "page.html"
    assert main(["compare", *runs, "--output", str(page)]) == 0
    shown = capsys.readouterr().out
    assert "32 test rows" in shown
    for name in ("small 1", "small 2", "small 4"):
        assert name in shown
        assert name in page.read_text()
    assert (
        shown.count("no difference shown") + shown.count(" is better ") + shown.count(" is worse ")
        == 3
    )
    assert main(["compare", runs[0], str(tmp_path / "other"), "--output", str(page)]) == 2
    said = capsys.readouterr().err
    assert "its test rows are not those of small 1" in said
    assert main(["compare", runs[0], str(tmp_path), "--output", str(page)]) == 2
    assert "it is no run directory" in capsys.readouterr().err
    assert main(["compare", runs[0]]) == 2
    capsys.readouterr()
    assert main(["compare", runs[0], runs[0] + "/.", "--output", str(page)]) == 2
    assert "1: is named 2 times, expected runs that differ" in capsys.readouterr().err
    assert main(["compare", runs[0], str(tmp_path / "no"), "--output", str(page)]) == 2
    assert "no: no such directory" in capsys.readouterr().err
    lines = (tmp_path / "2" / "predictions.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "2" / "predictions.jsonl").write_text("".join(lines[:9]))
    assert main(["compare", *runs, "--output", str(page)]) == 2
    assert "predictions.jsonl: holds 9 rows, expected 32" in capsys.readouterr().err
