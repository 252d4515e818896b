"""Malformed files: one line each, with the file, the line or row, what was found and what to do."""

import os
import subprocess
import sys

import pytest
import yaml

from lora_tune.config.data import DataConfig
from lora_tune.data.splits import load_data
from lora_tune.errors import DataError
from lora_tune.tasks import make_task
from tests.conftest import ROOT
from tests.tiny import make_tokenizer

TASK, TOKENIZER = make_task("sequence_classification"), make_tokenizer("bert")
TEXT = "text,label\n" + "".join(f"film {i},{'ab'[i % 2]}\n" for i in range(20))
ROW = b'{"text": "film", "label": "a"}\n'
# Name -> file, content, what the message says: where, and what to do.
FILES = {
    "empty": ("a.csv", b"", "the file is empty"),
    "only blank lines": ("a.csv", b"\n\n", "line 3: found nothing but blank lines"),
    "only a header": ("a.csv", b"text,label\n", "found a header, but no rows"),
    "a cell too many": ("a.csv", TEXT + "x,a,b\n", "line 22: row 20", "quotation marks around it"),
    "a cell too few": ("a.csv", TEXT + "x\n", "line 22: row 20", "still needs its delimiter"),
    "an open quotation mark": ("a.csv", TEXT + '"x,a\n', "line 22: row 20", "format.quote=none"),
    "text after a quotation mark": ("a.csv", TEXT + '"x"y,a\n', "line 22: row 20", 'twice, as ""'),
    "backslashes": ("a.csv", TEXT + '"a \\"b\\" c",a\n', "line 22: row 20", "writes twice"),
    "a column twice": ("a.csv", "text,label,text\na,b,c\n", "line 1: the column 'text'", "rename"),
    "another delimiter": (
        "a.csv",
        "text:label\na:b\n",
        "has no column 'text'",
        "it has",
    ),
    "a tab-separated file without the column": ("a.tsv", "x\ty\na\tb\n", "has no column 'text'"),
    "a comma-separated tsv file": ("a.tsv", TEXT, "'text'", "data.format.delimiter=','"),
    "Latin-1": ("a.csv", TEXT.encode() + b"caf\xe9,a\n", "line 22: row 20", "encoding=latin-1"),
    "UTF-16 without its mark": ("a.csv", TEXT.encode("utf-16-le"), "zero bytes", "=utf-16-le"),
    "a zip file": ("a.csv", b"PK\x03\x04 content", "found a zip file", "file extension"),
    "an old workbook": ("a.csv", b"\xd0\xcf\x11\xe0 content", "found an old Excel workbook"),
    "a gzip file": ("a.jsonl", b"\x1f\x8b content", "found a gzip file"),
    "a line that is not JSON": ("a.jsonl", ROW * 3 + b"{oops\n", "line 4: row 3", "not JSON"),
    "a line that is a list": ("a.jsonl", ROW * 3 + b"[1]\n", "line 4: row 3", "expected an object"),
    "a key twice": ("a.jsonl", ROW + b'{"text": 1, "text": 2}\n', "line 2: row 1", "rename one"),
    "half of a surrogate pair": (
        "a.jsonl",
        ROW + b'{"text": "\\ud83d", "label": "a"}\n',
        "line 2: row 1",
        "column 'text': found half of a surrogate pair",
    ),
    "too deep": ("a.jsonl", ROW + b"[" * 100_000 + b"\n", "line 2: row 1", "not usable"),
    "one object": ("a.json", b'{\n"text": {"0": "a"}\n}', "found one object", "a list of objects"),
    "a list that is not closed": ("a.json", b'[{"text": "a"},\n{"text": "b"', "line 2: not JSON"),
    "a comma missing": ("a.json", b'[{"text": "a"}\n {"text": "b"}]', "line 2: not JSON", "comma"),
    "text after the list": ("a.json", b'[{"text": "a"}]\n[]', "line 2: not JSON", "after the end"),
    "an empty list": ("a.json", b"[]", "found no rows"),
    "no parquet": ("a.parquet", b"PAR1 content", "not a readable parquet file"),
    "no workbook": ("a.xlsx", b"content", "not a readable Excel workbook"),
    "a word without a tag": ("a.conll", b"Ann\tB-per\nlives\n", "line 2: found 'lives'", "its tag"),
    "an unknown extension": ("a.doc", b"content", "found a .doc file", "expected csv, tsv"),
    "no text": ("a.csv", TEXT + " ,a\n", "row 20", "line 22", "data.missing=drop"),
    "no label": ("a.csv", TEXT + "film,\n", "row 20", "line 22", "data.missing=drop"),
    "a label as NaN": ("a.csv", TEXT + "film,nan\n", "row 20", "line 22", "data.missing=drop"),
    "a label of one row": ("a.csv", TEXT + "film,c\n", "fewer than 3 rows", "'c' 1", "data.rare"),
    "one label": ("a.csv", TEXT.replace(",b", ",a"), "all 20 rows are labeled 'a'"),
}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [(file, content, words) for file, content, *words in FILES.values()],
    ids=FILES,
)
def test_a_malformed_file_is_one_line(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError) as caught:
        load_data(DataConfig(source=str(path)), TASK, TOKENIZER)
    message = str(caught.value)
    for word in words:
        assert word in message
    assert "\n" not in message
    assert name in message or message.startswith("data.train: ")


def test_the_command_line_shows_one_line_and_exits_with_2(tmp_path):
    (tmp_path / "a.csv").write_text(TEXT + "x,a,b\n")
    recipe = {
        "model": {"name": "sentence-transformers/all-MiniLM-L6-v2"},
        "data": {"source": "a.csv"},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    for verb in ("data", "train"):
        done = subprocess.run(
            [sys.executable, "-m", "lora_tune", verb, "recipe.yaml"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            "a.csv: line 22: row 20 (rows count from 0): found 3 cells, expected 2 as in the "
            "header; a cell with a comma in it needs quotation marks around it\n"
        )
    assert not list(tmp_path.glob("runs/*/*"))
