"""`data`: shows and writes the rows of a recipe, without weights and without training."""

import csv
import io
import json
import shutil
import sys

import pytest
import yaml

from lora_tune.cli import main
from tests.integration.tasks.test_tasks import CASES
from tests.tiny import make_base


@pytest.fixture
def recipe(bases, rows, tmp_path):
    """A recipe whose base model has no weights."""
    base = shutil.copytree(bases["distilbert-base-uncased"], tmp_path / "base")
    (base / "model.safetensors").unlink()
    recipe = {
        "model": {"name": str(base)},
        "data": {"source": str(rows), "max_length": 64, "validation": {"fraction": 0.25}},
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_it_shows_rows_and_what_was_found_in_them(recipe, rows, capsys):
    assert main(["data", str(recipe)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Data: {rows}\nsplit ")
    assert "truncated at 64" in shown
    assert "\nFirst 3 of 48 training rows as the model gets them: decoded tokens" in shown
    assert shown.count("\nrow ") == shown.count("\n  input | [CLS]") == 3
    assert (
        main(["data", str(recipe), "--rows", "5", "data.train_rows=4", "data.max_length=16"]) == 0
    )
    shown = capsys.readouterr().out
    assert shown.count("\nrow ") == 4
    assert " of the test texts are longer than 16 tokens and are truncated" in shown


@pytest.mark.parametrize("case", CASES)
def test_it_works_for_every_task(case, tmp_path, capsys):
    base, make_rows, columns, _ = CASES[case]
    for split, count in (("train", 12), ("validation", 4), ("test", 4)):
        lines = [json.dumps(row) + "\n" for row in make_rows(count)]
        (tmp_path / f"{split}.jsonl").write_text("".join(lines))
    folder = make_base(tmp_path / "base", base)
    (folder / "model.safetensors").unlink()
    data = {"source": str(tmp_path), "validation": {"split": "validation"}, "max_length": 64}
    recipe = {"task": case.partition(" ")[0], "model": {"name": str(folder)}}
    if "seq2seq" in case:
        recipe["generation"] = {"metric": "rougeL"}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe | {"data": data | columns}))
    path = tmp_path / "rows.csv"
    assert main(["data", str(tmp_path / "tiny.yaml"), "--csv", str(path)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\nrow ") + shown.count("\nblock ") == 3
    assert len(list(csv.reader(path.open(newline="")))) == 1 + 12 + 4 + 4


def test_the_csv_file_has_every_row_as_read(recipe, rows, tmp_path, capsys):
    path = tmp_path / "rows.csv"
    assert main(["data", str(recipe), "--csv", str(path)]) == 0
    assert capsys.readouterr().out.endswith(f"\nRows: {path}\n")
    found = list(csv.DictReader(path.open(newline="", encoding="utf-8")))
    assert list(found[0]) == ["split", "row", "id", "text", "label"]
    kept = {}
    for row in found:
        kept.setdefault(row["split"], []).append(row)
    assert {name: len(own) for name, own in kept.items()} == {
        "train": 48,
        "validation": 16,
        "test": 32,
    }
    for split, names in (("train", ("train", "validation")), ("test", ("test",))):
        read = [json.loads(line) for line in (rows / f"{split}.jsonl").read_text().splitlines()]
        own = [row for name in names for row in kept[name]]
        assert sorted(int(row["row"]) for row in own) == list(range(len(read)))
        for row in own:
            assert {name: row[name] for name in ("text", "label")} == read[int(row["row"])]


def test_a_place_that_cannot_be_written_gets_one_line(recipe, rows, tmp_path, capsys):
    source = tmp_path / "source.csv"
    source.write_text("text,label\n" + "".join(f"text {i},{i % 2}\n" for i in range(40)))
    kept = source.read_text()
    from_csv = [f"data.source={source}", "data.test.fraction=0.2"]
    for words, problem in (
        (["--csv", str(tmp_path)], "expected a file in a folder that exists"),
        (["--csv", str(tmp_path / "no" / "rows.csv")], "expected a file in a folder that exists"),
        (["--csv", "-"], "expected a file in a folder that exists"),
        (["--csv", "/proc/rows.csv"], "cannot be written"),
        (["--csv", str(source), *from_csv], "the recipe reads its rows from it"),
    ):
        assert main(["data", str(recipe), *words]) == 2, words
        done = capsys.readouterr()
        assert problem in done.err
        assert done.err.startswith(f"--csv {words[1]}: ")
        assert done.err.count("\n") == 1
        assert not done.out
    assert source.read_text() == kept
    assert not list(tmp_path.glob(".*"))


def test_an_interrupted_file_is_not_left_behind(recipe, tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    path.write_text("before")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lora_tune.commands.data.redact", interrupt)
    assert main(["data", str(recipe), "--csv", str(path)]) == 130
    assert path.read_text() == "before"
    assert not list(tmp_path.glob(".*"))


def test_what_is_wrong_gets_one_line(recipe, capsys):
    assert main(["data", str(recipe), "data.label=lable"]) == 2
    assert "has no column 'lable'; did you mean label?" in capsys.readouterr().err
    with pytest.raises(SystemExit) as raised:
        main(["data", str(recipe), "--rows", "0"])
    assert raised.value.code == 2
    assert "expected a whole number of at least 1, got 0" in capsys.readouterr().err


def test_secrets_are_not_written(recipe, tmp_path, monkeypatch, capsys):
    source, path = tmp_path / "source.jsonl", tmp_path / "rows.csv"
    lines = [{"text": f"text {i} Sk-AbCdEf-123456", "label": i % 2} for i in range(40)]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setenv("MY_API_KEY", "Sk-AbCdEf-123456")
    words = [f"data.source={source}", "data.test.fraction=0.2", "--csv", str(path)]
    assert main(["data", str(recipe), *words]) == 0
    shown = capsys.readouterr().out
    assert shown.count("not shown: the text contains a secret") == 3
    written = path.read_text()
    assert "text 3 ${oc.env:MY_API_KEY}" in written
    assert "AbCdEf" not in written + shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_lacks_a_character_shows_its_escape(
    encoding, recipe, tmp_path, monkeypatch
):
    source = tmp_path / "source.jsonl"
    rows = [{"text": f"\u201cCaf\u00e9\u201d {i}", "label": f"\u4e2d{i % 2}"} for i in range(40)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    stream = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(stream, encoding=encoding))
    words = [f"data.source={source}", "data.test.fraction=0.2"]
    assert main(["data", str(recipe), *words]) == 0
    assert "label \\u4e2d" in stream.getvalue().decode(encoding)


def test_training_shows_the_same_before_it_begins(run_tiny, recipe, capsys):
    shown = []
    run_tiny(show=shown.append)
    assert main(["data", str(recipe), "data.labels=[negative,positive]"]) == 0
    assert f"{shown[0]}\n" == capsys.readouterr().out
    assert shown[0].count("\n  input | [CLS]") == 3
