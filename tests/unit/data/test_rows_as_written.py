"""Rows are read as they are written: kinds of files that tools like this one read wrongly."""

import io
import json
import os
import re

import pytest

from lora_tune.config.data import DataConfig, FormatConfig, SplitConfig
from lora_tune.data.given_rows import read_given_file
from lora_tune.data.splits import load_data
from lora_tune.errors import DataError
from lora_tune.tasks import make_task
from tests.tiny import make_tokenizer

FIFTH = SplitConfig(fraction=0.2)
QUOTED = "".join(("" if i % 5 else '"') + f"film {i}\ta\n" for i in range(20))
FORMATS = ["csv", "tsv", "json", "jsonl", "parquet"]


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer("gpt2")


@pytest.fixture
def load(tmp_path, tokenizer):
    """Write rows to a file of some format, or take its text, and load it as a recipe does."""

    def load_rows(rows, suffix="csv", *, task="sequence_classification", **options):
        path = write_rows(tmp_path / f"train.{suffix}", rows)
        settings = {"test": FIFTH, "validation": FIFTH, "max_length": 32} | options
        return load_data(DataConfig(source=str(path), **settings), make_task(task), tokenizer)

    return load_rows


def write_rows(path, rows):
    """Write a table as pandas does; a text or bytes as they are."""
    import pandas

    if isinstance(rows, (str, bytes)):
        path.write_bytes(rows.encode() if isinstance(rows, str) else rows)
        return path
    frame = pandas.DataFrame(rows)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix in (".csv", ".tsv"):
        frame.to_csv(path, sep="," if path.suffix == ".csv" else "\t", index=False)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    else:
        path.write_text(json.dumps(rows))
    return path


def reviews(labels=("neg", "pos"), rows=40):
    return [{"text": f"film {i}", "label": labels[i % len(labels)]} for i in range(rows)]


def all_rows(data):
    """Text and label of all rows, in the order of the file."""
    found = []
    for split in data.splits.values():
        rows = split.rows
        found += zip(rows.row_numbers, rows.texts, rows.label_texts, strict=True)
    return [tuple(row[1:]) for row in sorted(found)]


CELLS = {
    "leading zeros": ["01000", "01037"],
    "trailing zeros": ["1.10", "1.1"],
    "exponents": ["2E10", "1e5"],
    "booleans": ["true", "True"],
    "missing-like": ["nan", "None", "NA", "null"],
    "dates": ["2023-05-02", "02/05/2023", "2023-05-02T10:00:00Z"],
    "signs": ["+1", "-0", "1_000", "٣"],
    "spaces": [" a", "a ", "\ta"],
    "quotes": ['"a"', "it's", 'a "b" c', "“x”"],
    "breaks": ["a\nb", "a\r\nb", "a,b", "a\tb"],
    "emoji": ["😡", "👩‍👧", "e\u0301", "é"],
    "right to left": ["שלום, עולם", "مرحبا"],
}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("cells", CELLS.values(), ids=CELLS)
def test_text_is_as_written(load, cells, suffix):
    rows = [{"q": f"question {i}", "a": cells[i % len(cells)]} for i in range(20)]
    data = load(rows, suffix, task="causal_lm", prompt="{q} = ", completion="{a}")
    assert [label for _, label in all_rows(data)] == [row["a"] for row in rows]


def test_numbers_in_json_are_as_written(load):
    lines = ["0", "0.5", "1.0", "1.50", "2E10", "12345678901234567890", "-0.0", "true", "false"]
    text = "".join(f'{{"q": "number {i}", "a": {word}}}\n' for i, word in enumerate(lines))
    for suffix, content in (("jsonl", text), ("json", f"[{','.join(text.splitlines())}]")):
        data = load(content, suffix, task="causal_lm", prompt="{q} = ", completion="{a}")
        assert [label for _, label in all_rows(data)] == lines


def test_objects_and_lists_are_json(load):
    value = {"name": "Ann", "ok": True, "note": None, "n": [1.50, 2], "é": "ü"}
    rows = [{"q": f"q{i}", "a": value} for i in range(10)]
    data = load(rows, "jsonl", task="causal_lm", prompt="{q} = ", completion="{a}")
    assert data.train.rows.label_texts[0] == json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize(
    "labels",
    [
        [str(number) for number in range(12)],
        ["1", "2", "3"],
        ["01", "02", "10"],
        ["1.0", "2.0", "10.0"],
        ["-1", "0", "1"],
        ["True", "False"],
        ["True", "False", "Maybe"],
        ["b", "a"],
    ],
)
def test_labels_are_as_written_and_in_order(load, labels):
    data = load(reviews(labels, rows=10 * len(labels)))
    assert sorted(data.labels) == sorted(labels)
    numeric = not set(labels) & {"True", "False", "b"}
    assert data.labels == (sorted(labels, key=float) if numeric else sorted(labels))
    for text, label in all_rows(data):
        assert label == labels[int(text.split()[1]) % len(labels)]


def test_numbers_of_several_labels_keep_their_names(load):
    rows = [{"text": f"t{i}", "label": [i % 12, (i + 1) % 12]} for i in range(48)]
    data = load(rows, "jsonl", task="multi_label_classification")
    assert data.labels == [str(number) for number in range(12)]
    for text, label in all_rows(data):
        number = int(text[1:]) % 12
        assert set(label.split("; ")) == {str(number), str((number + 1) % 12)}


def test_lists_as_pandas_writes_them(load):
    rows = [{"text": f"t{i}", "label": [["bad"], ["good", "short"]][i % 2]} for i in range(40)]
    data = load(rows, "csv", task="multi_label_classification")
    assert data.labels == ["bad", "good", "short"]
    assert set(data.train.rows.label_texts) == {"bad", "good; short"}


def test_a_value_after_ten_thousand_rows_changes_no_other(load):
    labels = [["True", "False"][i % 2] for i in range(20_000)]
    labels[:10_000:500] = ["Maybe"] * 20
    text = "text,label,note\n" + "".join(
        f"claim {i},{label},{'checked' if i > 15_000 else ''}\n" for i, label in enumerate(labels)
    )
    few = SplitConfig(fraction=0.01)
    data = load(text, test=few, validation=few, train_rows=200)
    assert data.labels == ["False", "Maybe", "True"]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("missing", [None, float("nan"), "", "  "], ids=repr)
@pytest.mark.parametrize("column", ["text", "label"])
def test_a_missing_cell_is_named_or_left_out(load, suffix, missing, column):
    rows = reviews()
    for number in (5, 11):
        rows[number][column] = missing
    words = rf"data\.train: row 5 \(rows count from 0\).* has no {column}: column '{column}'"
    with pytest.raises(DataError, match=words) as caught:
        load(rows, suffix)
    assert "data.missing=drop" in str(caught.value)
    assert "2 such rows of 40" in str(caught.value)
    data = load(rows, suffix, missing="drop")
    assert len(all_rows(data)) == 38
    assert data.labels == ["neg", "pos"]
    assert f"left out 2 of 40 rows: 2 with no {column} (column '{column}')" in data.notes[0]
    assert 5 not in [n for split in data.splits.values() for n in split.rows.row_numbers]


def test_a_file_replaced_under_the_same_time_is_read_again(load, tmp_path):
    for labels in (("neg", "pos"), ("bad", "fin")):
        write_rows(tmp_path / "train.csv", reviews(labels))
        os.utime(tmp_path / "train.csv", (1_700_000_000, 1_700_000_000))
        data = load((tmp_path / "train.csv").read_bytes())
        os.utime(tmp_path / "train.csv", (1_700_000_000, 1_700_000_000))
        assert data.labels == sorted(labels)


def test_spellings_of_a_label_are_counted(load):
    rows = reviews(["pos", "neg", "pos", "neg", "pos ", "Neg", "pos", "neg"], rows=80)
    (warning,) = [line for line in load(rows).warnings if "differ only" in line]
    assert re.search("'Neg' 6, 'neg' 19; 'pos' 19, 'pos ' 7", warning)
    (warning,) = [w for w in load(reviews(["1", "1.0", "01"])).warnings if "differ only" in w]
    assert all(spelling in warning for spelling in ("'1' ", "'1.0' ", "'01' "))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "four quotation marks in a tsv file",
            (
                "tsv",
                "text\tlabel\n"
                + "".join(f"{'q' * (i % 5 == 0)}film {i}\ta\n" for i in range(20)).replace(
                    "q", '"'
                ),
            ),
            "line 2: row 0 (rows count from 0): found text after the closing quotation mark",
        ),
        (
            "the same header twice",
            ("csv", "text,label,text\na,b,c\n"),
            "line 1: the column 'text' occurs twice (columns 1 and 3)",
        ),
        (
            "backslashes before quotation marks",
            ("csv", 'text,label\n"he said \\"hi\\" ok",a\n'),
            "line 2: row 0 (rows count from 0): found a backslash before a quotation mark",
        ),
        ("a key twice", ("jsonl", '{"text": "a", "text": "b"}\n'), "the key 'text' occurs twice"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)
def test_a_malformed_row_is_named(load, name, content, words):
    suffix, text = content
    with pytest.raises(DataError) as caught:
        load(text, suffix)
    assert words in str(caught.value)


def test_quotation_marks_as_text(load):
    text = "text\tlabel\n" + "".join(f'"film {i}\t{"ab"[i % 2]}\n' for i in range(20))
    data = load(text, "tsv", format=FormatConfig(quote="none"))
    assert all_rows(data) == [(f'"film {i}', "ab"[i % 2]) for i in range(20)]


def test_rows_over_several_lines_are_counted(load):
    text = "text,label\n" + "".join(f'"film\n{i}",{"ab"[i % 2]}\n' for i in range(20))
    (note,) = load(text).notes
    assert note.endswith("train.csv: 20 rows read from 40 lines below the header.")


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiters_and_encodings_are_found_and_said(load, delimiter, encoding):
    text = f"text{delimiter}label\n" + "".join(
        f"schön, {i}{delimiter}{'ab'[i % 2]}\n" for i in range(20)
    )
    data = load(text.encode(encoding))
    assert all_rows(data) == [(f"schön, {i}", "ab"[i % 2]) for i in range(20)]
    notes = " ".join(data.notes)
    assert "cells are separated by" in notes
    assert ("read as UTF-16" in notes) == (encoding == "utf-16")


def test_latin_1_is_refused_with_what_to_write(load):
    text = "text,label\n" + "".join(f"schön {i},{'ab'[i % 2]}\n" for i in range(20))
    with pytest.raises(DataError, match=r"line 2: .*0xF6.*data\.format\.encoding=latin-1"):
        load(text.encode("latin-1"))
    data = load(text.encode("latin-1"), format=FormatConfig(encoding="latin-1"))
    assert all_rows(data)[0] == ("schön 0", "a")


def test_a_file_without_a_header(load):
    text = "".join(f"{'ab'[i % 2]},film {i}\n" for i in range(20))
    header = FormatConfig(header=["label", "text"])
    assert all_rows(load(text, format=header))[1] == ("film 1", "b")
    with pytest.raises(DataError, match=r"its first row is a header; remove data\.format\.header"):
        load("label,text\n" + text, format=header)
    with pytest.raises(DataError, match=r"row 0 .*found 2 cells, expected 3"):
        load(text, format=FormatConfig(header=["label", "text", "more"]))


@pytest.mark.parametrize("suffix", ["csv", "txt"])
def test_a_byte_order_mark_on_standard_input(monkeypatch, suffix):
    content = b"\xef\xbb\xbftext\nlovely film\n"[0 if suffix == "csv" else 8 :]
    content = content if suffix == "csv" else b"\xef\xbb\xbf" + content
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    table = read_given_file("-", DataConfig(), ["text"], file_format=suffix)
    assert list(table.rows()) == [{"text": "lovely film"}]


def test_conversations_with_the_columns_of_a_trace(load, tokenizer):
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "It is"}]
    row = {"source": "web", "model": "m", "system_prompt": "Be kind.", "messages": talk}
    rows = [{"id": f"c{i}", **row} for i in range(10)]
    template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    tokenizer.chat_template = template
    for suffix in FORMATS:
        data = load(rows, suffix, task="causal_lm", messages="messages", chat_template=template)
        assert data.train.rows.inputs[0] == {"messages": talk}


@pytest.mark.parametrize(
    "texts", [("Flight 😡", "Flight 😀"), ("I write C++", "I write C#")], ids=["emoji", "signs"]
)
def test_texts_that_differ_in_a_sign_are_no_duplicates(load, texts):
    rows = [{"text": f"{texts[i % 2]} {i // 2}", "label": "ab"[i % 2]} for i in range(60)]
    assert load(rows).duplicates == []


@pytest.mark.parametrize(
    "values",
    [
        [0, 1, 2],
        ["neg", "mid", "pos"],
        ["00", "01", "02"],
        [1, 2, 3],
        [True, False],
        [1.0, 2.5, 3.0],
    ],
    ids=repr,
)
def test_labels_of_every_kind_are_the_same_in_every_format(load, values):
    rows = [{"text": f"film {i}", "label": values[i % len(values)]} for i in range(400)]
    found = [load(rows, suffix) for suffix in FORMATS]
    for data in found[1:]:
        assert [split.rows.labels.tolist() for split in data.splits.values()] == [
            split.rows.labels.tolist() for split in found[0].splits.values()
        ]
        if True not in values:  # which pandas writes as True in csv, and JSON as true
            assert data.labels == found[0].labels
            assert data.fingerprint() == found[0].fingerprint()


@pytest.mark.parametrize(
    ("written", "content", "texts"),
    [
        (FormatConfig(quote="none"), b'text\tlabel\n"good\ta\nfine"\tb\n', ['"good', 'fine"']),
        (FormatConfig(quote="'"), b"text\tlabel\n'good'\ta\n", ["good"]),
        (FormatConfig(encoding="cp1252"), b"text\tlabel\ncaf\xe9\ta\n", ["café"]),
        (FormatConfig(encoding="iso2022_jp"), "text\tlabel\nこ\ta\n".encode("iso2022_jp"), ["こ"]),
        (FormatConfig(header=["label", "text"]), b"a\tgood\n", ["good"]),
        # Another format, such as that of a file of predictions.
        (FormatConfig(delimiter=";"), b"text\tlabel\ngood\ta\n", ["good"]),
        (FormatConfig(header=["label", "text"]), b"id\ttext\tlabel\n1\tgood\ta\n", ["good"]),
    ],
)
def test_files_for_a_trained_model_are_read_as_its_recipe_says(tmp_path, written, content, texts):
    (tmp_path / "more.tsv").write_bytes(content)
    config = DataConfig(format=written)
    table = read_given_file(tmp_path / "more.tsv", config, ["text", "label"])
    assert table.column("text") == texts


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"text": {"0": "a", "1": "b"}, "label": {"0": "x", "1": "y"}}', "one object of columns"),
        ('{"text": "a", "label": "b", "te\\ud83d": 1}\n', "the key"),
    ],
)
def test_json_that_is_no_row_is_refused(load, content, words):
    with pytest.raises(DataError, match=words):
        load(content, "jsonl")


def test_broken_encodings_are_one_line(load):
    for suffix in ("txt", "jsonl", "csv"):
        text = "text,label\n" + "a,b\n" * 20
        with pytest.raises(DataError, match=r"not UTF-16|not text in the encoding"):
            load(text.encode("utf-16")[:-1], suffix)
        with pytest.raises(DataError):
            load(text, suffix, format=FormatConfig(encoding="utf-16"))
