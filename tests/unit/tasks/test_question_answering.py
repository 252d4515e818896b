"""Extractive question answering: spans of a text, the tokens that have them, and their scores."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForQuestionAnswering

from lora_tune.config.data import DataConfig
from lora_tune.data.batching import IGNORE_INDEX, make_collator
from lora_tune.data.spans import CHARACTERS, END, FLAGS, START
from lora_tune.data.splits import load_data
from lora_tune.errors import DataError
from lora_tune.evaluation.model_evaluation import evaluate_outputs
from lora_tune.tasks import find_metric, make_task
from tests.tiny import SMALLER, make_tokenizer
from tests.unit.rows import VALIDATION, as_objects, make_split, write_splits

TASK = make_task("question_answering")
COLUMNS = {"text": "question", "text_pair": "context", "label": "answers"}
TEXT = "The film, “Über-Ich” (1990s), was made by Anna Lee in Rome. Anna liked it."
# Kinds of tokenizers: words and their parts; bytes; units that may include the space before them.
FAMILIES = ["bert", "distilbert", "roberta", "gpt2", "modernbert", "qwen2", "llama-2"]
SENTENCEPIECE = ["deberta-v2", "t5"]


def spans(*texts, text=TEXT):
    return [(text.index(own), text.index(own) + len(own)) for own in texts]


def given(text=TEXT, question="who made it?"):
    return {"text": question, "text_pair": text}


def tokenize(tokenizer, answers, *, max_length=512, text=TEXT):
    labels = None if answers is None else as_objects([[span] for span in answers])
    inputs = [given(text)] * (1 if answers is None else len(answers))
    return TASK.tokenize(inputs, labels, tokenizer, max_length)


def outputs_of(tokenizer, columns, row, *, logit=9.0):
    """Outputs of a model that is sure of the labels of a row."""
    labels = torch.tensor([columns["labels"][row]])
    flags = torch.stack([labels & START, (labels & END) / END], dim=-1)
    logits = torch.where(labels.unsqueeze(-1) == IGNORE_INDEX, 99.0, logit * flags)
    (outputs,) = TASK.extract_outputs(logits, labels)
    return outputs


@pytest.mark.parametrize("family", FAMILIES + SENTENCEPIECE)
def test_labeled_tokens_map_back_to_the_answer(family):
    tokenizer = make_tokenizer(family)
    answers = ["The", "Anna Lee", "1990s", "(1990s)", "Rome", "Anna Lee in Rome.", "Anna"]
    if family not in SENTENCEPIECE:  # for which neighbouring letters it does not know are one token
        answers[:0] = ["Über-Ich", "“Über"]
    again = TEXT.rindex("Anna")  # the second time
    places = [*spans(*answers[:-1]), (again, again + 4)]
    columns, counts = tokenize(tokenizer, places)
    assert counts.tolist() == [len(ids) for ids in columns["input_ids"]]
    assert "token_type_ids" not in columns
    for row, (answer, place) in enumerate(zip(answers, places, strict=True)):
        found = TASK.format(outputs_of(tokenizer, columns, row), given(), [])
        assert (found.text, found.start, found.end) == (answer, *place)
        assert TEXT[found.start : found.end] == found.text == found.label
        assert found.probability == pytest.approx(1, abs=0.05)
        assert found.cells()["answer"] == answer
        assert list(found.cells()) == TASK.prediction_columns([])


@pytest.mark.parametrize("family", FAMILIES + SENTENCEPIECE)
def test_only_the_tokens_of_the_text_count(family):
    tokenizer = make_tokenizer(family)
    columns, _ = tokenize(tokenizer, spans("Rome"))
    pair = tokenizer(given()["text"], TEXT)
    kept = [label != IGNORE_INDEX for label in columns["labels"][0]]
    assert columns["input_ids"][0] == pair["input_ids"]
    assert kept == [place == 0 or own == 1 for place, own in enumerate(pair.sequence_ids())]


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
def test_outputs_are_extracted_at_the_same_tokens_without_labels(family):
    tokenizer = make_tokenizer(family)
    known, unknown = tokenize(tokenizer, spans("Rome")), tokenize(tokenizer, None)
    assert known[0]["input_ids"] == unknown[0]["input_ids"]
    logits = torch.randn(1, len(known[0]["input_ids"][0]), 2)
    first, second = (
        TASK.extract_outputs(logits, torch.tensor(columns["labels"]))[0]
        for columns, _ in (known, unknown)
    )
    assert np.array_equal(first[:, :4], second[:, :4])
    assert first[:, 4:].sum(axis=0).tolist() == [1, 1]
    assert not second[:, 4:].any()


@pytest.mark.parametrize("side", ["left", "right"])
def test_truncation_removes_answers(side):
    tokenizer = make_tokenizer("bert")
    tokenizer.truncation_side = side
    columns, counts = tokenize(tokenizer, spans("The film", "Anna liked it"), max_length=24)
    assert [len(ids) for ids in columns["input_ids"]] == [24, 24]
    assert counts[0] > 24
    is_kept = [sum(label & START > 0 for label in labels) for labels in columns["labels"]]
    assert is_kept == ([1, 0] if side == "right" else [0, 1])
    ends = [sum(label & END > 0 for label in labels) for labels in columns["labels"]]
    assert ends == is_kept


def test_a_question_longer_than_its_text_is_truncated_first():
    inputs = [{"text": "why " * 99, "text_pair": "so it is"}]
    columns, _ = TASK.tokenize(inputs, as_objects([[(0, 2)]]), make_tokenizer("bert"), 32)
    assert len(columns["input_ids"][0]) == 32
    assert sum(label & START > 0 for label in columns["labels"][0]) == 1


def test_a_text_that_leaves_no_token_has_no_answer():
    inputs = [{"text": "why?", "text_pair": "\u200d"}]
    columns, _ = TASK.tokenize(inputs, None, make_tokenizer("bert"), 32)
    (outputs,) = TASK.extract_outputs(
        torch.zeros(1, len(columns["input_ids"][0]), 2), torch.tensor(columns["labels"])
    )
    found = TASK.format(outputs, inputs[0], [])
    assert (found.text, found.start, found.end, found.label) == ("", 0, 0, "none")


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_padding_and_the_batch_change_no_loss(padding_side):
    tokenizer = make_tokenizer("bert")
    tokenizer.padding_side = padding_side
    texts = [TEXT, "Anna Lee made it.", "She did not."]
    labels = as_objects([[spans("Rome")[0]], [(0, 8)], [(0, 0)]])
    columns, _ = TASK.tokenize([given(text) for text in texts], labels, tokenizer, 64)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    collate = make_collator(tokenizer, TASK, None)
    random = torch.Generator().manual_seed(0)
    logits = [torch.randn(len(row["input_ids"]), 2, generator=random) for row in rows]

    def loss(numbers, items, smoothing):
        batch = collate([rows[i] for i in numbers])
        padded = torch.full((*batch["labels"].shape, 2), 7.0)
        for row, i in enumerate(numbers):
            padded[row][batch["attention_mask"][row].bool()] = logits[i]
        return TASK.loss(padded, batch["labels"], items=items, smoothing=smoothing).item()

    for smoothing in (0.0, 0.2):
        whole = loss([0, 1, 2], 3, smoothing)
        assert whole == pytest.approx(sum(loss([i], 3, smoothing) for i in range(3)), rel=1e-5)


def labeled_batch():
    """Inputs of a tiny model, its own loss, logits and labels of two rows of the same length."""
    columns, _ = tokenize(make_tokenizer("distilbert"), spans("Anna Lee", "Rome"))
    labels = torch.tensor(columns["labels"])
    starts, ends = ((labels & flag > 0).int().argmax(dim=1) for flag in (START, END))
    torch.manual_seed(0)
    config = AutoConfig.for_model("distilbert", **SMALLER["distilbert"])
    model = AutoModelForQuestionAnswering.from_config(config).eval()
    with torch.no_grad():
        output = model(
            input_ids=torch.tensor(columns["input_ids"]), start_positions=starts, end_positions=ends
        )
    return output, labels


def test_loss_is_the_models_own_where_all_tokens_may_be_answers():
    output, labels = labeled_batch()
    candidates = labels.masked_fill(labels == IGNORE_INDEX, 0)
    logits = TASK.logits(output)
    assert logits.shape == (*labels.shape, 2)
    loss = TASK.loss(logits, candidates, items=torch.tensor(2), smoothing=0.0)
    assert loss.item() == pytest.approx(output.loss.item(), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_that_of_the_tokens_of_the_text(smoothing):
    output, labels = labeled_batch()
    found = TASK.loss(TASK.logits(output), labels, items=2, smoothing=smoothing)
    plain = []
    for row, own in enumerate(labels):
        kept = own != IGNORE_INDEX
        for logits, flag in ((output.start_logits, START), (output.end_logits, END)):
            target = (own[kept] & flag > 0).int().argmax()
            plain.append(cross_entropy(logits[row][kept], target, label_smoothing=smoothing))
    assert found.item() == pytest.approx(sum(plain).item() / 4, rel=1e-6)


def test_rows_without_their_answer_count_for_nothing():
    tokenizer = make_tokenizer("bert")
    columns, _ = tokenize(tokenizer, spans("The film", "Anna liked it"), max_length=24)
    labels = torch.tensor(columns["labels"])
    assert TASK.is_counted(labels).sum(dim=1).tolist() == [1, 0]
    logits = torch.randn(2, 24, 2, requires_grad=True)
    both = TASK.loss(logits, labels, items=1, smoothing=0.1)
    one = TASK.loss(logits[:1], labels[:1], items=1, smoothing=0.1)
    assert both.item() == pytest.approx(one.item(), rel=1e-6)
    both.backward()
    assert logits.grad[0].abs().sum() > 0
    assert not logits.grad[1].any()
    nothing = TASK.loss(logits[1:], labels[1:], items=torch.tensor(0), smoothing=0.0)
    nothing.backward()
    assert nothing.item() == 0
    assert torch.isfinite(logits.grad).all()


def as_outputs(starts, ends, places, flags=None):
    """Outputs of logits for start and end, and of places [(start, end), ...]."""
    flags = np.zeros((len(starts), 2)) if flags is None else flags
    columns = [np.array([starts, ends]).T, np.array(places) / CHARACTERS, flags]
    return np.concatenate(columns, axis=1).astype(np.float32)


def test_the_best_span_does_not_end_before_it_starts():
    places = [(0, 0), (0, 3), (4, 7), (8, 11)]
    outputs = as_outputs([0, 1, 2, 9], [0, 9, 3, 1], places)
    assert TASK.decide(outputs).tolist() == [1, 1]  # 1 + 9, over 9 + 1 by order
    outputs = as_outputs([0, 5, 1, 9], [0, 2, 9, 1], places)
    assert TASK.decide(outputs).tolist() == [1, 2]
    assert TASK.format(outputs, {"text_pair": "one two six"}, []).text == "one two"
    outputs = as_outputs([9, 1, 0, 0], [0, 0, 0, 9], places)  # no answer begins no span
    assert TASK.decide(outputs).tolist() == [1, 3]
    outputs = as_outputs([9, 1, 0, 0], [5, 0, 0, 9], places)
    assert TASK.decide(outputs).tolist() == [0, 0]
    places = [(0, 0), *((i, i + 1) for i in range(40))]
    outputs = as_outputs([0, 9, *[0] * 39], [0, *[0] * 39, 9], places)
    first, last = TASK.decide(outputs)
    assert last - first < 30, "longer answers are not considered"


def test_metrics_by_hand():
    text = "The Eiffel Tower, built by Gustave Eiffel, is in Paris."
    inputs = [given(text)] * 5
    true = [
        spans("Eiffel Tower", text=text),  # found with its article: both 1
        spans("Gustave Eiffel", "Eiffel", text=text),  # the second reference is found: both 1
        spans("in Paris", text=text),  # one of one word found, of two true: F1 2/3
        spans("Gustave Eiffel", text=text),  # nothing found: both 0
        [(0, 0)],  # no answer, and none found: both 1
    ]
    found = [*spans("The Eiffel Tower", "Eiffel", "Paris.", text=text), (0, 0), (0, 0)]
    split = make_split(as_objects(true), ["start", "end"], inputs=inputs)
    outputs = [
        as_outputs([0, 4], [0, 4], [(0, 0), place], np.eye(2)[[1, 1]].T if i == 3 else None)
        if place != (0, 0)
        else as_outputs([4, 0], [4, 0], [(0, 0), (0, 3)], np.eye(2)[[1, 1]].T if i == 3 else None)
        for i, place in enumerate(found)
    ]
    evaluation = evaluate_outputs(outputs, split, TASK)
    assert evaluation.counts.tolist() == [
        [1, 1, 1],
        [1, 1, 1],
        [pytest.approx(2 / 3), 1, 0],
        [0, 1, 0],
        [1, 1, 1],
    ]
    assert evaluation.metrics["f1"] == pytest.approx((3 + 2 / 3) / 5)
    assert evaluation.metrics["exact_match"] == pytest.approx(3 / 5)
    # Of the one row with flags: its second token, and e^4 times as probable the first.
    assert evaluation.metrics["loss"] == pytest.approx(np.log(1 + np.exp(4)), rel=1e-5)
    assert all(type(value) is float for value in evaluation.metrics.values())
    assert find_metric("question_answering", "f1") is TASK.primary_metric


def test_without_any_answer_left_the_loss_is_zero():
    split = make_split(as_objects([[(0, 3)]]), ["start", "end"], inputs=[given()])
    outputs = [as_outputs([0, 1], [0, 1], [(0, 0), (4, 8)])]
    metrics = evaluate_outputs(outputs, split, TASK).metrics
    assert metrics == {"f1": 0.0, "exact_match": 0.0, "loss": 0.0}


def row(answers, *, context=TEXT, question="who?"):
    return {"question": question, "context": context, "answers": answers}


def load(folder, *rows):
    write_splits(folder, train=rows, validation=rows, test=rows)
    config = DataConfig(source=str(folder), validation=VALIDATION, max_length=64, **COLUMNS)
    return load_data(config, TASK, make_tokenizer("bert"))


def test_rows_as_in_squad(tmp_path):
    twice = TEXT.rindex("Anna")
    data = load(
        tmp_path,
        row({"text": ["Anna", "Anna Lee"], "answer_start": [twice, TEXT.index("Anna")]}),
        row({"text": [], "answer_start": []}),
        row({"text": [" Rome "], "answer_start": [TEXT.index("Rome")]}),
    )
    assert data.labels == ["start", "end"]
    assert data.train.rows.label_texts == ["Anna", "none", "Rome"]
    assert data.train.rows.texts[0] == f"who?\n{TEXT}"
    assert list(data.train.rows.labels) == [
        [(twice, twice + 4), *spans("Anna Lee")],
        [(0, 0)],
        spans("Rome"),
    ]
    labels = data.train.encoded["labels"]
    assert labels[0][0] == 0
    assert labels[1][0] == START + END
    answer = next(label for label in labels[0] if label & START)
    assert answer // FLAGS // CHARACTERS == twice, "training learns the first answer"
    assert data.train.rows.select("test", [2]).labels[0] == spans("Rome")


def test_plain_answers_are_found_by_their_words(tmp_path):
    text = "Carpets and pets: a pet is no carpet."
    data = load(tmp_path, row("pet", context=text), row("carpet.", context=text))
    assert [own[0] for own in data.test.rows.labels] == [(20, 23), (30, 37)]
    assert data.test.rows.label_texts == ["pet", "carpet."]


@pytest.mark.parametrize(
    ("answer", "text", "start"),
    [
        ("क", "कि क", 3),
        ("👍", "👍🏽 👍", 3),
        ("Ann", "Ann's dog, Ann", 0),
        ("下雨", "今天下雨了", 2),
    ],
)
def test_whole_words_have_all_their_marks(tmp_path, answer, text, start):
    data = load(tmp_path, row(answer, context=text))
    assert [own[0] for own in data.test.rows.labels] == [(start, start + len(answer))]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ("Berlin", "found 'Berlin', expected what occurs in the text"),
        ("", "has no label: column 'answers': found nothing"),
        (
            {"text": ["Rome"], "answer_start": [3]},
            "found 'Rome', expected what occurs in the text at character 3 of it",
        ),
        ({"text": ["Rome"], "answer_start": []}, "expected {text: [...], answer_start: [...]}"),
        ({"text": ["Rome"]}, "expected {text: [...], answer_start: [...]}"),
        ({"text": [" "], "answer_start": [0]}, "found nothing, expected text"),
        ({"text": ["Rome"], "answer_start": [None]}, "at character None of it"),
    ],
)
def test_a_bad_row_is_one_line(tmp_path, answers, words):
    with pytest.raises(DataError) as caught:
        load(tmp_path, row(answers))
    line = str(caught.value)
    assert line.startswith("data.train: row 0 (rows count from 0), line 1")
    assert line.endswith(words) or words in line
    assert "\n" not in line


def test_unlabeled_rows_are_pairs():
    config = DataConfig(**COLUMNS)
    row = {"question": "who?", "context": TEXT}
    assert [name for _, name in TASK.columns(config, labeled=False)] == list(row)
    assert TASK.preprocess_row(row, config, None) == {"text": "who?", "text_pair": TEXT}
    with pytest.raises(DataError, match=r"data.text_pair \(context\): found nothing"):
        TASK.preprocess_row(row | {"context": ""}, config, None)
