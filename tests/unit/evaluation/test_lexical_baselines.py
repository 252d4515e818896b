"""Baselines that look at words alone."""

import numpy as np
import pytest

from lora_tune.config.data import DataConfig
from lora_tune.data.rows import Rows, Split
from lora_tune.data.splits import load_data
from lora_tune.evaluation.lexical_baselines import lead_baseline, most_frequent_tag
from lora_tune.metrics.text import TEXT_METRICS
from lora_tune.tasks import make_task
from tests.tiny import make_tokenizer
from tests.unit.rows import VALIDATION, write_splits

NER = make_task("token_classification")
LM = make_task("causal_lm")


def test_each_word_gets_its_most_frequent_tag(tmp_path):
    rows = [
        {"words": ["Ann", "likes", "moviegoers"], "tags": ["B-per", "O", "O"]},
        {"words": ["\u200d", "Bo", "Lee"], "tags": ["O", "B-per", "I-per"]},
        {"words": ["a"] * 40, "tags": ["O"] * 40},
    ]
    write_splits(tmp_path, train=rows, test=rows, validation=rows)
    config = DataConfig(
        source=str(tmp_path), validation=VALIDATION, text="words", label="tags", max_length=24
    )
    data = load_data(config, NER, make_tokenizer("bert"))
    outputs = most_frequent_tag(data.train, data.test, NER).evaluation.outputs
    predictions = [
        NER.format(row, given, data.labels)
        for row, given in zip(outputs, data.test.rows.inputs, strict=True)
    ]
    assert [prediction.label for prediction in predictions] == ["Ann: per", "Bo Lee: per", "none"]
    assert [len(row) for row in outputs] == [3, 3, 22]


@pytest.mark.parametrize(
    ("prompts", "completions", "leads"),
    [
        (["Sum: it  rained, all day", "Sum: a dog"], ["one two"] * 2, ["it  rained,", "a dog"]),
        (["概括：今天，下雨了", "概括：明天使用Python"], ["下雨了"] * 2, ["今天，下", "明天使"]),
        (["สรุป: ฝนตก", "สรุป: วันดี"], ["ฝน"] * 2, ["ฝน", "วัน"]),
    ],
)
def test_the_lead_has_as_many_words_as_completions(prompts, completions, leads):
    inputs = [{"prompt": p, "completion": c} for p, c in zip(prompts, completions, strict=True)]
    rows = Rows("test", "", [0, 1], prompts, inputs, np.zeros(2), completions, [])
    split = Split(rows, encoded=None, token_counts=np.ones(2))
    found = lead_baseline(split, split, LM, metric=TEXT_METRICS["exact_match"])
    assert found.evaluation.texts == leads
    assert ("bleu" in found.evaluation.metrics) == completions[0].isascii()
