"""Real datasets and a real small GPT-2, where they are available."""

import json
import math

from lora_tune.cli import main


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
    assert json.loads(history[-1])["step"] == math.ceil(270 / 4)  # four rows a step
    assert main(["predict", str(tmp_path / "run" / "adapter"), "--text", "Great flight!"]) == 0
    assert "neutral" in capsys.readouterr().out


def test_real_reviews_have_no_duplicates(shared):
    from lora_tune.config.data import DataConfig
    from lora_tune.data.splits import load_data
    from lora_tune.tasks import make_task
    from tests.tiny import make_tokenizer

    config = DataConfig(source=str(shared / "data" / "imdb"), labels=["negative", "positive"])
    data = load_data(config, make_task("sequence_classification"), make_tokenizer("bert"))
    assert [len(split.rows.texts) for split in data.splits.values()] == [2700, 300, 2000]
    assert data.duplicates == []
    assert data.test.rows.labels.mean() == 0.5
