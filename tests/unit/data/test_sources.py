"""Folders, embedded data and Hub datasets, and a one-line message for a missing source."""

import json
import os

import pytest

from lora_tune.config.data import DataConfig, FormatConfig
from lora_tune.data.sources import open_source
from lora_tune.errors import DataError


def test_a_folder_has_the_splits_of_its_file_names(tmp_path):
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
        ("embedded:movie_review", "no such embedded data set; did you mean embedded:movie_reviews"),
        ("lora_tune/embeded/", "no such file or folder"),
        ("./tets", "no such file or folder (looked from"),
        ("nowhere.csv", "no such file or folder (looked from"),
        ("owner/name", "this dataset cannot be fetched from https://huggingface.co (offline mo"),
    ],
)
def test_a_missing_source_is_reported_in_one_line(source, words):
    with pytest.raises(DataError) as caught:
        open_source(DataConfig(source=source))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def texts_of(source, split="train"):
    table = source.read(split, key=f"data.{split}")
    return [(row["text"], row["label"]) for row in table.rows()]


def test_a_file_for_each_class(tmp_path):
    (tmp_path / "pos.txt").write_bytes("schön\nfine\n".encode("latin-1"))
    (tmp_path / "neg.txt").write_text("dull\n")
    files = {"good": str(tmp_path / "pos.txt"), "bad": str(tmp_path / "neg.txt")}
    config = DataConfig(source=files, format=FormatConfig(encoding="latin-1"))
    rows = [("schön", "good"), ("fine", "good"), ("dull", "bad")]
    assert texts_of(open_source(config)) == rows
    with pytest.raises(DataError, match=r"pos.txt: line 1: row 0 .*encoding=latin-1"):
        open_source(DataConfig(source=files)).read("train", key="data.train")
    missing = {"good": str(tmp_path / "poss.txt")}
    with pytest.raises(DataError, match=r"source\.good: .*no such file.* did you mean .*pos.txt"):
        open_source(DataConfig(source=missing))
    (tmp_path / "table.csv").write_text("text,label\na,b\n")
    with pytest.raises(DataError, match=r"data.source.x: .*table.csv has a column 'label'"):
        open_source(DataConfig(source={"x": str(tmp_path / "table.csv")})).read("train", key="")


@pytest.mark.parametrize("splits", [("",), ("train", "test")])
def test_folders_of_text_files(tmp_path, splits):
    for split in splits:
        for label, texts in {"pos": ["fine\nfilm", "good"], "neg": ["dull"]}.items():
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for number, text in enumerate(texts):
                (folder / f"{number}.txt").write_text(f"{text} {split}")
    source = open_source(DataConfig(source=str(tmp_path)))
    assert sorted(source.readers) == sorted(splits if splits[0] else ["train"])
    for split in source.readers:
        word = split if splits[0] else ""
        rows = [(f"dull {word}", "neg"), (f"fine\nfilm {word}", "pos"), (f"good {word}", "pos")]
        assert texts_of(source, split) == rows
    table = source.read("train", key="data.train")
    assert table.column("file") == ["0.txt", "0.txt", "1.txt"]
    by_class = DataConfig(source={"up": str(tmp_path / splits[0] / "pos")})
    assert [label for _, label in texts_of(open_source(by_class))] == ["up", "up"]


def test_a_text_file_has_a_row_on_each_line(tmp_path):
    (tmp_path / "train.txt").write_text("one\n\nthree\n")
    for source in (tmp_path, tmp_path / "train.txt"):
        table = open_source(DataConfig(source=str(source), text="body")).read("train", key="")
        assert table.column("body") == ["one", None, "three"]
        assert table.place(1).startswith("row 1 (rows count from 0), line 2")


def test_parts_of_a_split_must_have_the_same_columns(tmp_path):
    (tmp_path / "train-00000-of-00002.csv").write_text("text,label\na,b\n")
    (tmp_path / "train-00001-of-00002.csv").write_text("text,lable\na,b\n")
    with pytest.raises(DataError, match=r"columns differ from those of .*: label, lable"):
        open_source(DataConfig(source=str(tmp_path))).read("train", key="data.train")


def test_stray_files_beside_the_classes(tmp_path):
    for split in ("train", "test"):
        for label in ("pos", "neg"):
            (tmp_path / split / label).mkdir(parents=True)
            (tmp_path / split / label / "1.TXT").write_text("a film")
            (tmp_path / split / label / "notes.md").write_text("no row")
            os.mkfifo(tmp_path / split / label / "pipe.txt")
            (tmp_path / split / label / "broken.txt").symlink_to("nowhere")
        (tmp_path / split / "urls_pos.txt").write_text("http://...")
    source = open_source(DataConfig(source=str(tmp_path)))
    assert sorted(source.readers) == ["test", "train"]
    assert texts_of(source) == [("a film", "neg"), ("a film", "pos")]
    notes = source.read("train", key="data.train").notes
    assert [note.endswith("left out 3 entries that are not txt files.") for note in notes] == [
        True
    ] * 2


def test_a_missing_part_of_a_split_is_named(tmp_path):
    for part in (0, 2):
        (tmp_path / f"train-0000{part}-of-00003.csv").write_text("text,label\na,b\n")
    with pytest.raises(DataError, match=r"found 2 files of train-00002-of-00003, expected 3"):
        open_source(DataConfig(source=str(tmp_path)))


def test_a_class_without_rows_is_named(tmp_path):
    for label in ("pos", "neg"):
        (tmp_path / label).mkdir()
    (tmp_path / "pos" / "1.txt").write_text("a film")
    with pytest.raises(DataError, match="no txt file for the class 'neg'"):
        open_source(DataConfig(source=str(tmp_path))).read("train", key="data.train")


def test_a_name_that_is_too_long_is_one_line():
    for source in ("x" * 300 + ".csv", {"a": "x" * 300}):
        with pytest.raises(DataError, match="no such file"):
            open_source(DataConfig(source=source))
