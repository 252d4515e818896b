"""Real datasets and a real small GPT-2, where they are available."""

import json
import math

import pytest
import yaml

from lora_tune.cli import main
from lora_tune.config.data import DataConfig
from lora_tune.data.splits import load_data
from lora_tune.tasks import make_task
from lora_tune.tasks.recipes import load_recipe
from tests.tiny import make_tokenizer


def test_a_real_decoder_on_real_tweets(shared, tmp_path, capsys):
    words = [
        f"model.name={shared}/models/tiny-gpt2-imdb",
        f"data.source={shared}/data/airline_tweets",
        "data.label=airline_sentiment",
        "data.train.samples=300",
        "data.test.samples=100",
        "training.num_train_epochs=1",
    ]
    assert main(["train", "gpt2_tweets_lora", *words, "--output", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    history = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    comparison = json.loads((tmp_path / "run" / "comparison.json").read_text())
    assert comparison["adapted"]["loss"] < comparison["base"]["loss"]
    assert json.loads(history[-1])["step"] == math.ceil(
        300 / 4
    )  # four rows a step; validation rows have a file of their own
    assert main(["predict", str(tmp_path / "run" / "adapter"), "--text", "Great flight!"]) == 0
    assert "neutral" in capsys.readouterr().out


def test_real_reviews_have_no_duplicates(shared):
    config = DataConfig(source=str(shared / "data" / "imdb"), labels=["negative", "positive"])
    data = load_data(config, make_task("sequence_classification"), make_tokenizer("bert"))
    assert [len(split.rows.texts) for split in data.splits.values()] == [2700, 300, 2000]
    assert data.duplicates == []
    assert data.test.rows.labels.mean() == 0.5


GOEMOTIONS = {
    "format": {"header": ["text", "label"], "quote": "none"},
    "test": {"file": "test.tsv"},
    "validation": {"file": "dev.tsv"},
}
# The files of real data sets as they are, and what a recipe says about them.
RAW = {
    "tsv without header, numbers of several labels": (
        "multi_label_classification",
        {"source": "goemotions/train.tsv", **GOEMOTIONS},
        {"train": 12_000, "validation": 5_426, "test": 5_427},
    ),
    "tsv without header, pairs with a number": (
        "sequence_regression",
        {
            "source": "sts",
            "format": {"header": ["score", "first", "second"], "quote": "none"},
            "text": "first",
            "text_pair": "second",
            "label": "score",
            "validation": {"fraction": 0.1},
        },
        {"train": 2_686, "validation": 298, "test": 750},
    ),
    "csv": (
        "sequence_classification",
        {
            "source": "airline_tweets",
            "label": "airline_sentiment",
            "validation": {"split": "validation"},
        },
        {"train": 10_248},
    ),
    "csv with 77 classes": (
        "sequence_classification",
        {"source": "banking77", "label": "category"},
        {"train": 9_003, "validation": 1_000, "test": 3_080},
    ),
    "conll": (
        "token_classification",
        {
            "source": "wnut17",
            "text": "words",
            "label": "tags",
            "validation": {"split": "validation"},
        },
        {"train": 3_394},
    ),
    "parquet, numbers of named labels": (
        "sequence_classification",
        {"source": "imdb", "labels": ["negative", "positive"]},
        {"train": 2_700, "validation": 300, "test": 2_000},
    ),
    "json": (
        "causal_lm",
        {
            "source": "alpaca/train.json",
            "prompt": "{instruction}\n{input}\n",
            "completion": "{output}",
        },
        {"test": 200},
    ),
}


@pytest.mark.parametrize(("task", "data", "counts"), RAW.values(), ids=RAW)
def test_raw_files_are_read_by_a_recipe_alone(shared, tmp_path, monkeypatch, task, data, counts):
    monkeypatch.chdir(shared / "data" / data["source"].partition("/")[0])
    source = shared / "data" / data["source"]
    data = {**data, "source": str(source), "max_length": 64}
    if "goemotions" in str(source):
        data["labels"] = (source.parent / "labels.txt").read_text().split()
    (tmp_path / "raw.yaml").write_text(
        yaml.safe_dump({"task": task, "model": {"name": "unused"}, "data": data})
    )
    recipe = load_recipe(str(tmp_path / "raw.yaml"))
    tokenizer = make_tokenizer("gpt2" if task == "causal_lm" else "bert")
    loaded = load_data(recipe.data, make_task(task), tokenizer)
    found = {name: len(split.rows.texts) for name, split in loaded.splits.items()}
    assert found == found | counts
    if source.suffix == ".tsv":
        with source.open("rb") as file:
            assert found["train"] == sum(1 for _ in file)


def test_a_latin_1_file_for_each_class_is_trained(tmp_path, monkeypatch):
    """As rt-polarity comes: two files, a review on each line."""
    monkeypatch.chdir(tmp_path)
    for name, word in (("pos", "lovely"), ("neg", "dull")):
        lines = [f"a {word} film, naïve number {i}, says “{word}”\n" for i in range(60)]
        (tmp_path / f"rt-polarity.{name}.txt").write_bytes("".join(lines).encode("cp1252"))
    (tmp_path / "reviews.yaml").write_text(REVIEWS)
    assert main(["train", "reviews.yaml", "--output", "run"]) == 0
    compared = json.loads((tmp_path / "run" / "comparison.json").read_text())
    assert compared["test_rows"] == 24
    recipe = (tmp_path / "run" / "recipe.yaml").read_text()
    assert "encoding: cp1252" in recipe
    assert main(["evaluate", "run/adapter"]) == 0


REVIEWS = """
model: {name: sentence-transformers/all-MiniLM-L6-v2}
data:
  source: {positive: rt-polarity.pos.txt, negative: rt-polarity.neg.txt}
  format: {encoding: cp1252}
  max_length: 32
lora: {rank: 4, alpha: 8, target_modules: [query]}
training: {max_steps: 2}
"""
