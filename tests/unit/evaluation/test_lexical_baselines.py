"""Baselines that look at words alone."""

from lora_tune.config.data import DataConfig
from lora_tune.data.splits import load_data
from lora_tune.evaluation.lexical_baselines import most_frequent_tag
from lora_tune.tasks import make_task
from tests.tiny import make_tokenizer
from tests.unit.rows import VALIDATION, write_splits

NER = make_task("token_classification")


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
