"""Rows become splits: named columns, checked labels, samples, shards, a stratified validation."""

import json
from collections import Counter

import pytest

from lora_tune.config.data import DataConfig, SplitConfig
from lora_tune.data.preprocessing import Preprocessor
from lora_tune.data.splits import load_data
from lora_tune.errors import DataError
from lora_tune.tasks import make_task
from tests.tiny import make_tokenizer
from tests.unit.rows import write_splits

TASK = make_task("sequence_classification")


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer("bert")


@pytest.fixture
def folder(tmp_path):
    """120 training and 30 test rows, sorted by label, three classes, 3 : 2 : 1."""
    return write_splits(
        tmp_path,
        train=[{"body": f"text {i}", "mood": mood(i, 120)} for i in range(120)],
        test=[{"body": f"other {i}", "mood": mood(i, 30)} for i in range(30)],
    )


def mood(i, rows):
    return "low" if i < rows / 2 else "mid" if i < rows * 5 / 6 else "top"


def load(folder, tokenizer, **changes):
    config = {"source": str(folder), "text": "body", "label": "mood", "max_length": 16}
    return load_data(DataConfig(**{**config, **changes}), TASK, tokenizer)


def classes(split):
    return dict(Counter(split.rows.labels.tolist()))


def test_validation_is_a_stratified_part_of_train(folder, tokenizer):
    data = load(folder, tokenizer)
    assert data.labels == ["low", "mid", "top"]
    assert classes(data.train) == {0: 54, 1: 36, 2: 18}
    assert classes(data.validation) == {0: 6, 1: 4, 2: 2}
    assert len(data.test.rows.texts) == 30
    assert not set(data.train.rows.texts) & set(data.validation.rows.texts)


def test_a_named_validation_split_leaves_train_and_test_unchanged(folder, tokenizer):
    (folder / "dev.jsonl").write_text('{"body": "x", "mood": "low"}\n')
    data = load(folder, tokenizer, validation=SplitConfig(split="dev", fraction=0.1))
    assert (len(data.train.rows.texts), len(data.validation.rows.texts)) == (120, 1)
    by_file = load(folder, tokenizer, validation=SplitConfig(file="dev.jsonl"))
    assert by_file.validation.rows.texts == ["x"]


def test_a_validation_file_in_the_folder_is_used(folder, tokenizer):
    (folder / "validation.jsonl").write_text('{"body": "x", "mood": "low"}\n')
    data = load(folder, tokenizer)
    assert (len(data.train.rows.texts), data.validation.rows.texts) == (120, ["x"])
    by_fraction = load(folder, tokenizer, validation=SplitConfig(fraction=0.1))
    assert (len(by_fraction.train.rows.texts), len(by_fraction.validation.rows.texts)) == (108, 12)


@pytest.mark.parametrize("key", [{"samples": 4}, {"shards": 2, "shard": 0}])
def test_drawing_from_a_split_that_does_not_exist_is_an_error(folder, tokenizer, key):
    with pytest.raises(DataError) as caught:
        load(folder, tokenizer, validation=SplitConfig(**key))
    message = str(caught.value)
    assert message.startswith(f"data.validation.{next(iter(key))}: ")
    assert "has no split 'validation' to draw from" in message
    assert "set data.validation.fraction instead" in message


@pytest.mark.parametrize("test", [{"split": "validation"}, {"file": "validation.jsonl"}])
def test_validation_rows_that_are_tested_on_do_not_select(folder, tokenizer, test):
    (folder / "validation.jsonl").write_text('{"body": "x", "mood": "low"}\n')
    data = load(folder, tokenizer, test=SplitConfig(**test))
    assert data.test.rows.texts == ["x"]
    assert (len(data.train.rows.texts), len(data.validation.rows.texts)) == (108, 12)


def test_one_file_is_split_into_all_three(folder, tokenizer):
    data = load(folder / "train.jsonl", tokenizer, test=SplitConfig(fraction=0.25))
    assert [len(split.rows.texts) for split in data.splits.values()] == [81, 9, 30]
    texts = [text for split in data.splits.values() for text in split.rows.texts]
    assert len(set(texts)) == 120


def test_the_seed_determines_the_samples(folder, tokenizer):
    def drawn(seed):
        split = load(folder, tokenizer, train=SplitConfig(samples=60), seed=seed).train
        return split.rows.texts

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_shards_partition_the_rows(folder, tokenizer):
    parts = [
        load(folder, tokenizer, test=SplitConfig(shards=3, shard=k)).test.rows.texts
        for k in range(3)
    ]
    assert sorted(text for part in parts for text in part) == sorted(
        f"other {i}" for i in range(30)
    )


def test_row_numbers_point_into_the_source(folder, tokenizer):
    rows = load(folder, tokenizer, test=SplitConfig(samples=7)).test.rows
    assert rows.texts == [f"other {place}" for place in rows.row_numbers]


def test_duplicates_between_train_and_test_are_counted(folder, tokenizer):
    with (folder / "test.jsonl").open("a") as file:
        file.write('{"body": "text 3", "mood": "low"}\n')
    (duplicates,) = load(folder, tokenizer).duplicates
    assert duplicates.startswith("1 of 31 test texts also occur in train or validation")


def test_the_fingerprint_depends_on_the_rows_and_not_on_max_length(folder, tokenizer):
    first = load(folder, tokenizer).fingerprint()
    assert load(folder, tokenizer, max_length=12).fingerprint() == first
    assert load(folder, tokenizer, seed=1).fingerprint() != first


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text": "boddy"}, "train.jsonl has no column 'boddy'; did you mean body?"),
        ({"labels": ["low", "mid", "tip"]}, "labels are not among low, mid, tip"),
        ({"labels": ["low", "mid"]}, "20 of 120 labels are not among low, mid"),
        ({"train": SplitConfig(samples=500)}, "asks for 500 rows, found 120"),
        (
            {"train": SplitConfig(shards=4, shard=0), "labels": ["low", "mid", "top"]},
            "all 30 rows are labeled 'low'",
        ),
        (
            {"train": SplitConfig(samples=4), "labels": ["low", "mid", "top"]},
            "classes have fewer than 2 rows, one for each split: 'mid' 1",
        ),
        ({"test": SplitConfig(split="train2")}, "has no split 'train2'; did you mean train?"),
        ({"test": SplitConfig(file="nope.csv")}, "nope.csv: no such file"),
        ({"test": SplitConfig(split="train")}, "data.test: 120 of its 120 rows are also rows of t"),
        (
            {"validation": SplitConfig(split="test")},
            "data.test: 30 of its 30 rows are also rows of",
        ),
        (
            {"validation": SplitConfig(file="train.jsonl")},
            "data.validation: 120 of its 120 rows are also rows of train",
        ),
    ],
)
def test_wrong_data_is_reported_in_one_line(folder, tokenizer, changes, words):
    with pytest.raises(DataError) as caught:
        load(folder, tokenizer, **changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", ["", "   ", None])
def test_a_row_without_text_is_reported(folder, tokenizer, bad):
    with (folder / "test.jsonl").open("a") as file:
        file.write(json.dumps({"body": bad, "mood": "low"}) + "\n")
    with pytest.raises(DataError, match=r"data.test: row 30 .* has no text: column 'body'"):
        load(folder, tokenizer)


def test_a_label_that_only_test_has_is_reported(folder, tokenizer):
    with (folder / "test.jsonl").open("a") as file:
        file.write('{"body": "x", "mood": "odd"}\n')
    with pytest.raises(DataError, match=r"data.test: .* row 30 .*, line 31 of .*: 'odd'"):
        load(folder, tokenizer)
    # Its row number does not depend on the sample.
    with pytest.raises(DataError, match=r"data.test: .* row 30 .*, line 31 of .*: 'odd'"):
        load(folder, tokenizer, test=SplitConfig(samples=31))


def test_a_fifth_is_the_test_split_where_there_is_none(folder, tokenizer):
    data = load(folder / "train.jsonl", tokenizer)
    assert [len(split.rows.texts) for split in data.splits.values()] == [86, 10, 24]
    assert classes(data.test) == {0: 12, 1: 8, 2: 4}
    (note,) = data.notes
    assert "has no test split: 20% of its rows are set aside for it" in note
    assert load(folder, tokenizer).notes == []
    with pytest.raises(DataError, match=r"data.test.samples: .* has no split 'test'"):
        load(folder / "train.jsonl", tokenizer, test=SplitConfig(samples=5))


def test_several_columns_in_one_text(tmp_path, tokenizer):
    rows = [
        {"subject": f"subject {i}", "body": f"body {i}" if i % 2 else None, "label": "ab"[i % 2]}
        for i in range(20)
    ]
    folder = write_splits(tmp_path, train=rows, test=rows[:4])
    template = "{subject}\n\n{body}"
    data = load(folder, tokenizer, text=template, label="label")
    assert data.test.rows.texts == [
        "subject 0\n\n",
        "subject 1\n\nbody 1",
        "subject 2\n\n",
        "subject 3\n\nbody 3",
    ]
    preprocessor = Preprocessor(TASK, DataConfig(text=template), tokenizer)
    assert preprocessor.columns == ["subject", "body"]
    assert preprocessor.preprocess({"subject": "a", "body": None}) == "a\n\n"
    with pytest.raises(DataError, match="found nothing, expected text"):
        preprocessor.preprocess({"subject": " ", "body": None})
    rows[3] |= {"subject": " ", "body": ""}
    write_splits(tmp_path, train=rows)
    with pytest.raises(DataError, match=r"row 3 .* has no text: column 'subject' and 'body'"):
        load(folder, tokenizer, text=template, label="label")
    kept = load(folder, tokenizer, text=template, label="label", missing="drop").train.rows
    assert 3 not in kept.row_numbers
    with pytest.raises(DataError, match=r"data.text: .* has no column 'topic'"):
        load(folder, tokenizer, text="{topic}: {body}", label="label")


def test_rows_that_are_left_out_keep_the_numbers_of_the_others(folder, tokenizer):
    lines = (folder / "test.jsonl").read_text().splitlines(keepends=True)
    lines[4] = '{"body": "other 4", "mood": null}\n'
    (folder / "test.jsonl").write_text("".join(lines))
    for test in (SplitConfig(), SplitConfig(samples=10), SplitConfig(shards=2, shard=1)):
        data = load(folder, tokenizer, test=test, missing="drop")
        rows = data.test.rows
        assert list(rows.texts) == [f"other {number}" for number in rows.row_numbers]
        assert 4 not in rows.row_numbers
        assert "data.test: left out 1 of 30 rows: 1 with no label (column 'mood')." in data.notes


RARE = ["a"] * 20 + ["b"] * 20 + ["c", "c", "d"]


@pytest.mark.parametrize("named", [False, True])
def test_rare_classes(tmp_path, tokenizer, named):
    rows = [{"body": f"text {i}", "mood": label} for i, label in enumerate(RARE)]
    write_splits(tmp_path, train=rows)
    if named:
        write_splits(tmp_path, test=[{"body": f"new {label}", "mood": label} for label in "abde"])
    source = tmp_path if named else tmp_path / "train.jsonl"
    needed = 2 if named else 3
    words = (
        "data.test: .* 'e'.*data.rare=drop"
        if named
        else f"data.train: 2 of 4 classes have fewer than {needed} rows.*'c' 2, 'd' 1.*data.rare"
    )
    with pytest.raises(DataError, match=words):
        load(source, tokenizer)
    dropped = load(source, tokenizer, rare="drop")
    assert dropped.labels == (["a", "b", "c"] if named else ["a", "b"])
    assert {*dropped.test.rows.label_texts} <= {*dropped.labels}
    assert any("data.rare: left out 2 classes" in note for note in dropped.notes)
    if named:
        assert dropped.test.rows.texts == ["new a", "new b"]
    else:
        other = load(source, tokenizer, rare="other")
        assert other.labels == ["a", "b", "other"]
        counts = [split["other"] for split in other.label_counts.values()]
        assert sum(counts) == 3


def test_a_fraction_that_is_too_small_for_the_classes(tmp_path, tokenizer):
    rows = [{"body": f"text {i}", "mood": f"class {i % 30}"} for i in range(150)]
    write_splits(tmp_path, train=rows, test=rows[:30])
    with pytest.raises(DataError, match=r"15 rows for 30 classes; set .*fraction=0\.2 "):
        load(tmp_path, tokenizer)
    data = load(tmp_path, tokenizer, validation=SplitConfig(fraction=0.2))
    assert len(data.validation.rows.texts) == 30
