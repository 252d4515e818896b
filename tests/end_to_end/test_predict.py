"""`predict` on files of every format: rows keep their order and columns; bad rows are reported."""

import csv
import io
import json
import subprocess
import sys

import pytest

from lora_tune.artifacts.saved_adapter import load_adapter
from lora_tune.cli import main
from tests.conftest import ROOT
from tests.parts import LABELS, Parts
from tests.tiny import make_base, reviews

TEXTS = ["Good, really", "Dull.", "A film about\ntwo lines", "word " * 90, "Ünïcode “quoted”"]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    parts = Parts(make_base(folder / "base", "distilbert-base-uncased"))
    parts.attach()
    parts.train_a_little(20)
    parts.save(folder / "adapter")
    return folder / "adapter"


@pytest.fixture(scope="module")
def expected(adapter):
    return load_adapter(adapter).predict(TEXTS)


def write(path, rows):
    """Write rows of text, id and label in the format of the file extension."""
    import datasets

    if path.suffix == ".txt":
        path.write_text("".join(row["text"].replace("\n", " ") + "\n" for row in rows))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            delimiter = "\t" if path.suffix == ".tsv" else ","
            table = csv.DictWriter(file, rows[0].keys(), delimiter=delimiter)
            table.writeheader()
            table.writerows(rows)
    return path


def read(path):
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("output_format", ["csv", "jsonl"])
@pytest.mark.parametrize("input_format", ["txt", "csv", "tsv", "jsonl", "json", "parquet"])
def test_every_input_and_output_format(adapter, expected, tmp_path, input_format, output_format):
    rows = [{"text": text, "id": i, "label": "gold"} for i, text in enumerate(TEXTS)]
    source = write(tmp_path / f"given.{input_format}", rows)
    output = tmp_path / f"out.{output_format}"
    assert main(["predict", str(adapter), "--input", str(source), "--output", str(output)]) == 0
    found = read(output)
    for row, predicted, right in zip(rows, found, expected, strict=True):
        assert predicted["text"].replace("\n", " ") == row["text"].replace("\n", " ")
        assert predicted["label"] == right.label
        probabilities = [float(predicted[f"p_{label}"]) for label in LABELS]
        assert probabilities == pytest.approx(list(right.probabilities.values()), abs=1e-6)
        if input_format != "txt":  # other columns are kept; one is renamed, since its name is taken
            assert str(predicted["id"]) == str(row["id"])
            assert predicted["input.label"] == "gold"


def test_bad_rows_are_reported_and_others_predicted(adapter, expected, tmp_path, capsys):
    lines = [
        json.dumps({"text": TEXTS[0], "id": 0}),
        "not json",
        json.dumps({"text": None, "id": 2}),
        json.dumps([1]),
        json.dumps({"text": 7, "id": 4}),
        json.dumps({"text": TEXTS[1], "id": 5, "more": "x"}),
    ]
    source, output = tmp_path / "given.jsonl", tmp_path / "out.csv"
    source.write_text("\n".join(lines) + "\n")
    assert main(["predict", str(adapter), "--input", str(source), "--output", str(output)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors == [
        f"{source}: row 1 (rows count from 0): line 2: not JSON: Expecting value at column 1",
        f"{source}: row 2 (rows count from 0): found nothing, expected text",
        f"{source}: row 3 (rows count from 0): line 4: found a list, expected an object with "
        "columns",
        "3 of 6 rows have no prediction; their columns are left empty",
    ]
    labels = [row["label"] for row in read(output)]
    assert labels[:4] + labels[5:] == [expected[0].label, "", "", "", expected[1].label]
    assert labels[4], "a number is its text"
    assert [row["more"] for row in read(output)] == ["", "", "", "", "", "x"]


def test_bad_lines_of_a_csv_file(adapter, tmp_path, capsys):
    source, output = tmp_path / "given.csv", tmp_path / "out.jsonl"
    source.write_bytes(b"id,text\n1,Good\n2\n3,\n4,\xff\xfe bytes\n5,Dull\n")
    assert main(["predict", str(adapter), "--input", str(source), "--output", str(output)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "row 1 (rows count from 0): line 3: found 1 cell, expected 2" in errors[0]
    assert errors[1].endswith("row 2 (rows count from 0): found nothing, expected text")
    rows = read(output)
    assert [row["id"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert "line 5: found the byte 0xFF, which is not UTF-8" in errors[2]
    assert [row["label"] is None for row in rows] == [False, True, True, True, False]


def test_an_unclosed_quotation_mark_affects_its_own_line_only(adapter, tmp_path, capsys):
    source, output = tmp_path / "given.csv", tmp_path / "out.csv"
    source.write_text('id,text\n1,"Good\n2,Fine film\n3,"Two\nlines"\n4,Dull\n5,"open\n')
    assert main(["predict", str(adapter), "--input", str(source), "--output", str(output)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "5 rows read from 6 lines below the header" in errors[0]
    problems = [line.partition(": ")[2].partition(";")[0] for line in errors[1:3]]
    assert problems == [
        "row 0 (rows count from 0): line 2: found text after the closing quotation mark of a cell",
        "row 4 (rows count from 0): line 7: found a quotation mark that is not closed",
    ]
    rows = read(output)
    assert [row["text"] for row in rows[1:4]] == ["Fine film", "Two\nlines", "Dull"]
    assert [bool(row["label"]) for row in rows] == [False, True, True, True, False]


def test_unusual_rows_do_not_affect_others(adapter, expected, tmp_path, capsys):
    lines = [
        '{"text": "cut \\ud83d"}',
        f'{{"text": "Good, really", "n": {"9" * 5000}}}',
        "[" * 100_000,
        "",
        '{"text": "Dull.", "more": "\\ud83d", "label": 1, "input.label": 2}',
    ]
    source, output = tmp_path / "given.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(lines))
    assert main(["predict", str(adapter), "--input", str(source), "--output", str(output)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "row 0 (rows count from 0): line 1: found half of a surrogate pair" in errors[0]
    assert "row 2 (rows count from 0): line 3: not usable" in errors[1]
    rows = read(output)
    assert len(rows) == 4
    assert rows[3]["label"] == expected[1].label
    kept = ("more", "input.label", "input.input.label")
    assert [rows[3][name] for name in kept] == ["\\ud83d", "1", "2"]
    assert rows[1]["n"] == "9" * 5000, "a number of any length is as written"


def test_bytes_that_are_not_utf8_affect_their_row_only(adapter, tmp_path, capsys):
    source, output = tmp_path / "given.txt", tmp_path / "out.jsonl"
    source.write_bytes("Fine film\ncaf\xe9\n".encode("latin-1") + "Very fine café\n".encode())
    assert main(["predict", str(adapter), "--input", str(source), "--output", str(output)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "row 1 (rows count from 0): line 2: found the byte 0xE9" in errors[0]
    assert [bool(row["label"]) for row in read(output)] == [True, False, True]


def test_an_output_file_is_complete_or_unchanged(adapter, tmp_path, monkeypatch, capsys):
    source, output = tmp_path / "given.txt", tmp_path / "out.csv"
    source.write_text("Good\n")
    output.write_text("precious")
    with monkeypatch.context() as patch:
        patch.setattr("lora_tune.evaluation.predictor.compute_outputs", lambda *_, **__: 1 / 0)
        words = ["predict", str(adapter), "--input", str(source), "--output", str(output)]
        assert main(words) == 1
    assert output.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given.txt", "out.csv"]
    assert main(["predict", str(adapter), "--input", "gone.txt", "--output", str(output)]) == 2
    assert "gone.txt: no such file" in capsys.readouterr().err
    blocked = "/proc/out.csv"
    assert main(["predict", str(adapter), "--input", str(source), "--output", blocked]) == 2
    assert capsys.readouterr().err.startswith("--output /proc/out.csv: cannot be written")


def test_a_format_that_the_file_extension_does_not_tell(adapter, tmp_path):
    rows = [{"text": text} for text in TEXTS]
    source = write(tmp_path / "given.parquet", rows).rename(tmp_path / "given.pq")
    assert main(["predict", str(adapter), "--input", str(source), "--format", "parquet"]) == 0


def test_a_reader_that_closes_the_pipe(adapter):
    command = f"{sys.executable} -m lora_tune predict {adapter} --input - --output - | head -c 1"
    given = "Good\n" * 3000
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=ROOT,
        input=given.encode(),
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_rows_of_several_windows_keep_their_order(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr("lora_tune.commands.prediction_file.WINDOW_ROWS", 7)
    texts = [text for text in reviews("test")[0][:40] if "\n" not in text]
    source, output = tmp_path / "given.txt", tmp_path / "out.jsonl"
    source.write_text("\n".join(texts))
    assert main(["predict", str(adapter), "--input", str(source), "--output", str(output)]) == 0
    whole = load_adapter(adapter).predict(texts)
    for row, text, right in zip(read(output), texts, whole, strict=True):
        assert row["text"] == text
        assert row["p_fine"] == pytest.approx(right.probabilities["fine"], abs=1e-6)


def test_standard_input_to_standard_output(adapter, expected):
    command = [sys.executable, "-m", "lora_tune", "predict", str(adapter)]
    command += ["--input", "-", "--output", "-"]
    given = f"{TEXTS[0]}\n\n{TEXTS[4]}\n"
    done = subprocess.run(command, cwd=ROOT, input=given.encode(), capture_output=True, timeout=120)
    rows = [json.loads(line) for line in io.StringIO(done.stdout.decode())]
    assert [row["label"] for row in rows] == [expected[0].label, None, expected[4].label]
    assert rows[2]["text"] == TEXTS[4]
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == [
        "-: row 1 (rows count from 0): found nothing, expected text",
        "1 of 3 rows have no prediction; their columns are left empty",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("review,id\nx,1\n", "has no column 'text'; it has review, id; name it with --column"),
        ("txt,id\nx,1\n", "has no column 'text'; did you mean txt?; it has txt, id"),
        ("", "the file is empty"),
        ("text\n", "found a header, but no rows"),
    ],
)
def test_a_file_without_the_column_or_rows(adapter, tmp_path, capsys, content, words):
    source = tmp_path / "given.csv"
    source.write_text(content)
    assert main(["predict", str(adapter), "--input", str(source)]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert words in errors


def test_the_table_shows_bad_rows_too(adapter, expected, capsys):
    assert main(["predict", str(adapter), "--text", TEXTS[1], ""]) == 2
    captured = capsys.readouterr()
    assert expected[1].label in captured.out
    assert "found nothing, expected text" in captured.out
    assert "--text: row 1 (rows count from 0)" in captured.err
