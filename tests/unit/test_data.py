"""Rows become splits: named columns, checked labels, samples, shards, a stratified validation."""

import json
from collections import Counter

import pytest

from lora_tune.data import load_data
from lora_tune.encoding import encode
from lora_tune.errors import DataError
from lora_tune.recipe import DataConfig, SplitConfig
from lora_tune.tasks import find_task
from tests.tiny import make_tokenizer

TASK = find_task("sequence_classification")


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer("bert")


@pytest.fixture
def folder(tmp_path):
    """120 training and 30 test rows, sorted by label, three classes, 3 : 2 : 1."""

    def write(name, rows):
        lines = [json.dumps(row) + "\n" for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))

    write("train", [{"body": f"text {i}", "mood": name(i, 120)} for i in range(120)])
    write("test", [{"body": f"other {i}", "mood": name(i, 30)} for i in range(30)])
    return tmp_path


def name(i, rows):
    return "low" if i < rows / 2 else "mid" if i < rows * 5 / 6 else "top"


def load(folder, tokenizer, **changes):
    config = {"source": str(folder), "text": "body", "label": "mood", "max_length": 16}
    return load_data(DataConfig(**{**config, **changes}), TASK, tokenizer)


def classes(split):
    return dict(Counter(split.rows.labels.tolist()))


def test_validation_is_carved_from_train_in_the_same_proportions(folder, tokenizer):
    data = load(folder, tokenizer)
    assert data.labels == ["low", "mid", "top"]
    assert classes(data.train) == {0: 54, 1: 36, 2: 18}
    assert classes(data.validation) == {0: 6, 1: 4, 2: 2}
    assert len(data.test.rows.texts) == 30
    assert not set(data.train.rows.texts) & set(data.validation.rows.texts)


def test_a_named_validation_split_leaves_train_and_test_as_they_are(folder, tokenizer):
    (folder / "dev.jsonl").write_text('{"body": "x", "mood": "low"}\n')
    data = load(folder, tokenizer, validation=SplitConfig(split="dev", fraction=0.1))
    assert (len(data.train.rows.texts), len(data.validation.rows.texts)) == (120, 1)
    by_file = load(folder, tokenizer, validation=SplitConfig(file="dev.jsonl"))
    assert by_file.validation.rows.texts == ["x"]


def test_one_file_can_give_all_three_splits(folder, tokenizer):
    data = load(folder / "train.jsonl", tokenizer, test=SplitConfig(fraction=0.25))
    assert [len(split.rows.texts) for split in data.splits.values()] == [81, 9, 30]
    texts = [text for split in data.splits.values() for text in split.rows.texts]
    assert len(set(texts)) == 120


def test_samples_are_drawn_by_the_seed(folder, tokenizer):
    def drawn(seed):
        split = load(folder, tokenizer, train=SplitConfig(samples=60), seed=seed).train
        return split.rows.texts

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_shards_part_the_rows(folder, tokenizer):
    parts = [
        load(folder, tokenizer, test=SplitConfig(shards=3, shard=k)).test.rows.texts
        for k in range(3)
    ]
    assert sorted(text for part in parts for text in part) == sorted(
        f"other {i}" for i in range(30)
    )


def test_places_point_into_the_source(folder, tokenizer):
    rows = load(folder, tokenizer, test=SplitConfig(samples=7)).test.rows
    assert rows.texts == [f"other {place}" for place in rows.places]


def test_duplicates_between_train_and_test_are_counted(folder, tokenizer):
    with (folder / "test.jsonl").open("a") as file:
        file.write('{"body": "text 3", "mood": "low"}\n')
    (copies,) = load(folder, tokenizer).copies
    assert copies.startswith("1 of 31 test texts also stand in train or validation")


def test_the_fingerprint_tells_data_apart(folder, tokenizer):
    first = load(folder, tokenizer).fingerprint()
    assert load(folder, tokenizer, max_length=12).fingerprint() == first
    assert load(folder, tokenizer, seed=1).fingerprint() != first


@pytest.mark.parametrize("side", ["left", "right"])
def test_truncation_keeps_the_named_end_and_counts_what_was_there(tokenizer, side):
    tokenizer.truncation_side = side
    text = " ".join(str(i) for i in range(40))
    whole = tokenizer(text)["input_ids"]
    columns, counts = encode(["short", text], tokenizer, 10)
    start, end = (whole[0], whole[-1])
    inner = whole[1:-1][-8:] if side == "left" else whole[1:-1][:8]
    assert columns["input_ids"][1] == [start, *inner, end]
    assert counts.tolist() == [len(tokenizer("short")["input_ids"]), len(whole)]


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        ([0, 1, 1], None, ["0", "1"]),
        ([1, 0, 1], ["bad", "fine"], ["bad", "fine"]),
        ([1, 0, 1], ["1", "0"], ["1", "0"]),
        ([1, 2, 3], ["1", "2", "3"], ["1", "2", "3"]),
        ([1, 2, 3], None, ["1", "2", "3"]),
        ([float(i) for i in range(12)], None, [str(i) for i in range(12)]),
        (["b", "a", "b"], None, ["a", "b"]),
        ([True, False, True], None, ["False", "True"]),
        ([0.0, 1.0, 1.0], ["bad", "fine"], ["bad", "fine"]),
    ],
)
def test_label_columns_of_every_kind(values, names, expected):
    import datasets

    rows = datasets.Dataset.from_dict({"y": values})
    labels = TASK.find_labels(rows, DataConfig(label="y", labels=names))
    assert labels == expected
    numbers = TASK.number_labels(rows, "y", labels, where="here")
    written = [str(int(v)) if isinstance(v, float) else str(v) for v in values]
    assert [labels.index(w) if w in labels else int(w) for w in written] == numbers.tolist()


def test_class_labels_keep_their_own_names():
    import datasets

    features = datasets.Features({"y": datasets.ClassLabel(names=["neg", "pos"])})
    rows = datasets.Dataset.from_dict({"y": [0, 1, 1]}, features=features)
    assert TASK.find_labels(rows, DataConfig(label="y")) == ["neg", "pos"]
    assert TASK.number_labels(rows, "y", ["pos", "neg"], where="").tolist() == [1, 0, 0]
    assert TASK.number_labels(rows, "y", ["bad", "good"], where="").tolist() == [0, 1, 1]


@pytest.mark.parametrize("values", [[None, None], list(range(2000))])
def test_a_column_that_is_not_of_labels_is_refused(values):
    import datasets

    rows = datasets.Dataset.from_dict({"y": values})
    with pytest.raises(DataError, match="distinct values"):
        TASK.find_labels(rows, DataConfig(label="y"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text": "boddy"}, "data.text: data.train has no column 'boddy'; did you mean body?"),
        ({"labels": ["low", "mid", "tip"]}, "labels are not among low, mid, tip"),
        ({"labels": ["low", "mid"]}, "20 of 120 labels are not among low, mid"),
        ({"train": SplitConfig(samples=500)}, "asks for 500 rows, found 120"),
        ({"train": SplitConfig(shards=4, shard=0)}, "all 30 rows are labelled 'low'"),
        (
            {"train": SplitConfig(samples=4), "labels": ["low", "mid", "top"]},
            "leaves no row of some class",
        ),
        ({"test": SplitConfig(split="train2")}, "has no split 'train2'; did you mean train?"),
        ({"test": SplitConfig(file="nope.csv")}, "nope.csv: no such file"),
        ({"test": SplitConfig(split="train")}, "data.test: 120 of its 120 rows are rows of train"),
        ({"validation": SplitConfig(split="test")}, "data.test: 30 of its 30 rows are rows of va"),
        (
            {"validation": SplitConfig(file="train.jsonl")},
            "data.validation: 120 of its 120 rows are rows of train too",
        ),
    ],
)
def test_wrong_data_gets_one_line(folder, tokenizer, changes, words):
    with pytest.raises(DataError) as caught:
        load(folder, tokenizer, **changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", ["", "   ", None])
def test_a_row_without_text_is_named(folder, tokenizer, bad):
    with (folder / "test.jsonl").open("a") as file:
        file.write(json.dumps({"body": bad, "mood": "low"}) + "\n")
    with pytest.raises(DataError, match=r"data.test: column 'body', row 30 .*: found nothing"):
        load(folder, tokenizer)


def test_a_label_seen_only_in_test_is_named(folder, tokenizer):
    with (folder / "test.jsonl").open("a") as file:
        file.write('{"body": "x", "mood": "odd"}\n')
    with pytest.raises(DataError, match=r"data.test: .* row 30: 'odd'"):
        load(folder, tokenizer)
    with pytest.raises(DataError, match=r"data.test: .* row 30: 'odd'"):  # wherever it is drawn
        load(folder, tokenizer, test=SplitConfig(samples=31))
