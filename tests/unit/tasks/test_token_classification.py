"""Token classification: words, their BIO tags, and the tokens that have them."""

import datasets
import numpy as np
import pytest
import torch
from seqeval.metrics import f1_score, precision_score, recall_score

from lora_tune.config.data import DataConfig
from lora_tune.data.batching import IGNORE_INDEX
from lora_tune.data.splits import load_data
from lora_tune.data.words import join_words
from lora_tune.errors import DataError
from lora_tune.evaluation.model_evaluation import evaluate_outputs
from lora_tune.tasks import make_task
from tests.tiny import make_tokenizer
from tests.unit.rows import (
    TAGS,
    VALIDATION,
    as_objects,
    make_split,
    make_typed_table,
    random_tags,
    read,
    write_splits,
)

NER = make_task("token_classification")


@pytest.fixture
def tagged(tmp_path):
    rows = [
        {"words": ["Ann", "likes", "moviegoers"], "tags": ["B-per", "O", "O"]},
        # The first word has no token.
        {"words": ["\u200d", "Bo", "Lee"], "tags": ["O", "B-per", "I-per"]},
        {"words": ["a"] * 40, "tags": ["O"] * 40},
    ]
    write_splits(tmp_path, train=rows, test=rows, validation=rows)
    return DataConfig(
        source=str(tmp_path), validation=VALIDATION, text="words", label="tags", max_length=24
    )


def test_the_first_token_of_each_word_has_its_tag(tagged):
    data = load_data(tagged, NER, make_tokenizer("bert"))
    assert data.labels == ["O", "B-per", "I-per"]
    tokenizer = make_tokenizer("bert")
    for row, (words, kept) in enumerate([(3, 3), (3, 3), (40, 22)]):
        encoded = data.train.encoded[row]
        labels = [label for label in encoded["labels"] if label != IGNORE_INDEX]
        assert labels == data.train.rows.labels[row][:kept].tolist()
        assert len(data.train.rows.labels[row]) == words
        pieces = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
        for piece, label in zip(pieces, encoded["labels"], strict=True):
            if piece.startswith("##") or piece in ("[CLS]", "[SEP]"):
                assert label == IGNORE_INDEX
    assert data.train.token_counts[2] == 42
    assert data.label_counts["test"] == {"per": 2}
    assert data.train.rows.label_texts == ["Ann: per", "Bo Lee: per", "none"]


def test_outputs_are_extracted_at_the_same_tokens_without_labels(tagged):
    data = load_data(tagged, NER, make_tokenizer("bert"))
    unlabeled, _ = NER.tokenize(data.train.rows.inputs, None, make_tokenizer("bert"), 24)
    for row in range(3):
        known, unknown = data.train.encoded[row]["labels"], unlabeled["labels"][row]
        assert [n == IGNORE_INDEX for n in known] == [n == IGNORE_INDEX for n in unknown]
    logits = torch.randn(1, len(known), 3)
    (outputs,) = NER.extract_outputs(logits, torch.tensor([known]))
    expected = [logits[0, at].tolist() for at, n in enumerate(known) if n != IGNORE_INDEX]
    assert outputs.tolist() == expected


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"words": ["a", "b"], "tags": ["O"]}, "found 2 words and 1 tags"),
        ({"words": ["a"], "tags": ["B-pre"]}, "did you mean B-per?"),
        ({"words": ["a", " "], "tags": ["O", "O"]}, "among its words: found nothing"),
        ({"words": [], "tags": []}, "expected a list of words and of tags"),
    ],
)
def test_invalid_rows_are_reported_with_their_number(tagged, tmp_path, row, words):
    write_splits(tmp_path, test=[row])
    with pytest.raises(DataError, match=r"data\.test: row 0") as caught:
        load_data(tagged, NER, make_tokenizer("bert"))
    assert words in str(caught.value)


def test_labels_that_are_not_bio_tags_are_refused(tmp_path):
    rows = [{"words": ["a"], "tags": ["person"]}]
    write_splits(tmp_path, train=rows, validation=rows, test=rows)
    with pytest.raises(DataError, match="expected O, B-TYPE and I-TYPE"):
        load_data(
            DataConfig(source=str(tmp_path), validation=VALIDATION, text="words", label="tags"),
            NER,
            make_tokenizer("bert"),
        )


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
def test_words_are_tokenized_as_in_running_text(tmp_path, family):
    rows = [{"words": ["Ann", "likes", "films"], "tags": ["B-per", "O", "O"]}]
    write_splits(tmp_path, train=rows, test=rows, validation=rows)
    config = DataConfig(source=str(tmp_path), validation=VALIDATION, text="words", label="tags")
    tokenizer = make_tokenizer(family)
    encoded = load_data(config, NER, tokenizer).test.encoded[0]
    assert encoded["input_ids"] == tokenizer("Ann likes films")["input_ids"]
    assert [n for n in encoded["labels"] if n != IGNORE_INDEX] == [1, 0, 0]


def test_class_label_names_of_a_column_apply_in_any_order():
    listed = datasets.Sequence(datasets.ClassLabel(names=["O", "B-x", "B-y"]))
    rows = datasets.Dataset.from_dict({"text": [["u", "v"]], "label": [[1, 0]]})
    rows = make_typed_table(rows.cast_column("label", listed))
    config = DataConfig(labels=["O", "B-y", "B-x"])
    labels = read(NER, rows, config, config.labels)[2]
    assert labels[0].tolist() == [2, 0]


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_those_of_seqeval(seed):
    true = random_tags(seed)
    random = np.random.default_rng(seed + 100)
    outputs = [
        random.normal(size=(len(row), len(TAGS))) + 2 * np.eye(len(TAGS))[row] for row in true
    ]
    split = make_split(as_objects(true), TAGS, inputs=[join_words(["x"] * len(t)) for t in true])
    found = evaluate_outputs(outputs, split, NER)
    labels = [[TAGS[n] for n in row] for row in true]
    predicted = [[TAGS[n] for n in row.argmax(axis=1)] for row in outputs]
    assert found.metrics["entity_f1"] == pytest.approx(f1_score(labels, predicted), abs=1e-9)
    assert found.metrics["precision"] == pytest.approx(precision_score(labels, predicted), abs=1e-9)
    assert found.metrics["recall"] == pytest.approx(recall_score(labels, predicted), abs=1e-9)
    # The sums of the rows' counts give the same F1, so that rows can be resampled.
    sums = found.counts.sum(axis=0)
    f1 = NER.primary_metric.from_sums(sums)
    assert f1 == pytest.approx(f1_score(labels, predicted), abs=1e-9)
    groups = NER.metrics_by_group(outputs, split)
    assert {group["type"] for group in groups} == {"person", "place"}
    for group in groups:
        own = [[tag if tag[2:] == group["type"] else "O" for tag in row] for row in labels]
        same = [[tag if tag[2:] == group["type"] else "O" for tag in row] for row in predicted]
        assert group["f1"] == pytest.approx(f1_score(own, same), abs=1e-9)


def test_entities_in_truncated_words_count_as_missed():
    inputs = [join_words(["a", "b", "c", "d"])]
    split = make_split(as_objects([np.array([1, 2, 0, 3])]), TAGS, inputs=inputs)
    found = evaluate_outputs([4.0 * np.eye(5)[[1, 2]]], split, NER)
    assert found.counts.tolist() == [[1, 0, 1]]
