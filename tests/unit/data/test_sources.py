"""Folders, embedded data and Hub datasets, and a one-line message for a missing source."""

import json

import pytest

from lora_tune.config.data import DataConfig
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
