"""Data files of every format, and a one-line message for each that cannot be read."""

import json

import pytest

from lora_tune.data.file_reader import read_file
from lora_tune.errors import DataError

ROWS = [{"text": "a, b", "label": 1}, {"text": "N/A", "label": 0}]
ROW_1 = "row 1 (rows count from 0)"
READ = [{"text": "a, b", "label": "1"}, {"text": "N/A", "label": "0"}]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "parquet"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte-order-mark"])
def test_every_format_gives_the_same_rows(tmp_path, suffix, start):
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        import pandas

        pandas.DataFrame(ROWS).to_parquet(path)
    else:
        text = {
            "csv": 'text,label\n"a, b",1\nN/A,0\n',
            "tsv": "text\tlabel\na, b\t1\nN/A\t0\n",
            "json": json.dumps(ROWS),
            "jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
        }[suffix]
        path.write_bytes(start + text.encode())
    assert list(read_file(path).check().rows()) == READ


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "a.csv",
            b'text,label\nhi,1\n"no end,2\nyo,3\n',
            f"line 3: {ROW_1}: found a quotation mark that is not closed",
        ),
        (
            "a.csv",
            b"text,label\nhi,1\nyo,2,3\n",
            f"line 3: {ROW_1}: found 3 cells, expected 2",
        ),
        (
            "a.csv",
            b"text,label\nhi,1\n\xff\xfe,2\n",
            f"line 3: {ROW_1}: column 'text': found the byte 0xFF",
        ),
        ("a.csv", b"text,label\n", "found a header, but no rows"),
        ("a.csv", b"", "the file is empty"),
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', f"line 2: {ROW_1}: not JSON"),
        ("a.json", b'[{"text": "a"},\n {"text": "b"]', "line 2: not JSON"),
        (
            "a.parquet",
            b"PAR1 nonsense",
            "not a readable parquet file: Parquet magic bytes",
        ),
        ("a.doc", b"hello", "found a .doc file, expected csv, tsv, json, jsonl, parquet"),
    ],
)
def test_a_malformed_file_is_reported_in_one_line(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_file(path).check(["text", "label"])
    assert str(caught.value).startswith(f"{path}: {words}")
    assert "\n" not in str(caught.value)
