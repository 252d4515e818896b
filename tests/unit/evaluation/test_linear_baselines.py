"""The TF-IDF baseline reads scripts without spaces between words."""

import json

import numpy as np

from lora_tune.config.data import DataConfig
from lora_tune.data.splits import load_data
from lora_tune.evaluation.linear_baselines import tfidf_baseline
from lora_tune.tasks import make_task
from tests.tiny import make_tokenizer

THAI, CHINESE = ["ดี", "แย่"], ["好", "坏"]


def rows(words, count, seed):
    """Put a word that determines the class among random characters, without spaces."""
    random = np.random.default_rng(seed)
    first = 0x4E00 if words is CHINESE else 0x0E01
    for number in range(count):
        drawn = [chr(first + c) for c in random.integers(0, 40, 12)]
        drawn[random.integers(12)] = words[number % 2]
        yield {"text": "".join(drawn), "label": number % 2}


def test_scripts_without_spaces(tmp_path):
    task = make_task("sequence_classification")
    for words in (CHINESE, THAI):
        for split, count in (("train", 400), ("test", 100)):
            lines = [json.dumps(row) + "\n" for row in rows(words, count, seed=count)]
            (tmp_path / f"{split}.jsonl").write_text("".join(lines))
        config = DataConfig(source=str(tmp_path), labels=["good", "bad"])
        data = load_data(config, task, make_tokenizer("bert"))
        assert tfidf_baseline(data, task).evaluation.metrics["accuracy"] > 0.9
