"""Files that can be read, and one clear line for those that cannot."""

import json

import pytest

from lora_tune.errors import DataError
from lora_tune.recipe import DataConfig
from lora_tune.sources import open_source, read_file

ROWS = [{"text": "a, b", "label": 1}, {"text": "N/A", "label": 0}]


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
    assert read_file(path).to_list() == ROWS


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b'text,label\nhi,1\n"no end,2\nyo,3\n', "line 3: unexpected end of data"),
        ("a.csv", b"text,label\nhi,1\nyo,2,3\n", "line 3: found 3 columns, expected 2"),
        ("a.csv", b"text,label\nhi,1\n\xff\xfe,2\n", "line 3: not UTF-8 at byte 0"),
        ("a.csv", b"text,label\n", "found the names of columns, but no rows"),
        ("a.csv", b"", "the file is empty"),
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', "line 2: not JSON"),
        ("a.json", b'[{"text": "a"},\n {"text": "b"]', "line 2: not JSON"),
        ("a.parquet", b"PAR1 nonsense", "Parquet magic bytes not found"),
        ("a.txt", b"hello", "found a .txt file, expected csv, tsv, json, jsonl, parquet"),
    ],
)
def test_a_malformed_file_gets_one_line(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_file(path)
    assert str(caught.value).startswith(f"{path}: {words}")
    assert "\n" not in str(caught.value)


def test_a_folder_has_a_split_for_each_file(tmp_path):
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": name}) + "\n")
    (tmp_path / "notes.txt").write_text("not data")
    for stray in (".ipynb_checkpoints/train.jsonl", "backup/test.jsonl"):
        (tmp_path / stray).parent.mkdir()
        (tmp_path / stray).write_text('{"text": "stray"}\n')
    source = open_source(DataConfig(source=str(tmp_path)))
    assert sorted(source.readers) == ["test", "train"]
    assert len(source.read("train", key="data.train")) == 2
    assert len(source.read("test", key="data.test")) == 1
    with pytest.raises(DataError, match=r"has no split 'tets'; did you mean test\?; it has test"):
        source.read("tets", key="data.test")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("embedded:movie_review", "no such embedded data; did you mean embedded:movie_reviews?"),
        ("lora_tune/embeded/", "no such file or folder"),
        ("./tets", "no such file or folder (looked from"),
        ("nowhere.csv", "no such file or folder (looked from"),
        ("owner/name", "wanted this dataset from https://huggingface.co (offline mode is on"),
    ],
)
def test_a_source_that_is_not_there_gets_one_line(source, words):
    with pytest.raises(DataError) as caught:
        open_source(DataConfig(source=source))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
