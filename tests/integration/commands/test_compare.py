"""`compare`: finished runs on the same test rows, and what it refuses."""

import shutil

import pytest

from lora_tune.artifacts.reload_check import ReloadCheck
from lora_tune.cli import main


@pytest.fixture(scope="module")
def runs(small_recipe, tmp_path_factory):
    """Three runs that differ in rank, and one with other test rows."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lora_tune.run.check_reload", lambda *_: ReloadCheck(0, 0.0))
        for rank in (1, 2, 4):
            words = ["train", str(small_recipe), f"lora.rank={rank}", "training.learning_rate=0.01"]
            assert main([*words, "--output", str(folder / str(rank))]) == 0
        words = ["train", str(small_recipe), "data.test.samples=20"]
        assert main([*words, "--output", str(folder / "other")]) == 0
    return folder


def compare(*words):
    return main(["compare", *map(str, words)])


def test_each_pair_of_runs_is_compared(runs, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert compare(runs / "1", runs / "2", runs / "4", "--output", page) == 0
    shown = capsys.readouterr().out
    assert "32 test rows" in shown
    for name in ("small 1", "small 2", "small 4"):
        assert name in shown
        assert name in page.read_text()
    assert "validation accuracy" in shown
    (keys,) = (line.split() for line in shown.splitlines() if line.startswith("lora.rank"))
    assert keys == ["lora.rank", "1", "2", "4"]
    assert "lora.rank" in page.read_text()
    verdicts = ("no significant difference", " is better ", " is worse ")
    assert sum(map(shown.count, verdicts)) == 3


def test_runs_that_cannot_be_compared_are_refused(runs, tmp_path, capsys):
    def refuse(*words):
        page = tmp_path / "page.html"
        assert compare(*words, "--output", page) == 2
        assert not page.exists()
        return capsys.readouterr().err

    assert "its test rows are not those of small 1" in refuse(runs / "1", runs / "other")
    assert "it is not a run directory" in refuse(runs / "1", tmp_path)
    assert "expected at least two" in refuse(runs / "1")
    assert "1: is named 2 times, expected different runs" in refuse(runs / "1", f"{runs}/1/.")
    assert "no: no such directory" in refuse(runs / "1", tmp_path / "no")
    damaged = shutil.copytree(runs / "2", tmp_path / "2")
    lines = (damaged / "predictions.jsonl").read_text().splitlines(keepends=True)
    (damaged / "predictions.jsonl").write_text("".join(lines[:9]))
    assert "predictions.jsonl: has 9 rows, expected 32" in refuse(runs / "1", damaged)
