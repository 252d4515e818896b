"""What each task makes of rows and of a model's outputs."""

import json
from typing import ClassVar

import datasets
import numpy as np
import pytest
import torch

from lora_tune.data import load_data
from lora_tune.errors import DataError
from lora_tune.evaluation import judge_answers
from lora_tune.recipe import DataConfig, SplitConfig
from lora_tune.rows import Rows, Split
from lora_tune.tasks import find_task
from lora_tune.tasks.task import IGNORED
from lora_tune.texts import ROW
from tests.tiny import make_tokenizer

NER = find_task("token_classification")
LM = find_task("causal_lm")
CLASSES = find_task("sequence_classification")
RANDOM = np.random.default_rng(3)
VALIDATION = SplitConfig(split="validation")


class Table(list):
    """Rows that give a column by its name, as a dataset does, but of values of any kind."""

    features: ClassVar = {"label": None}

    def __getitem__(self, key):
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)


def split(labels, names):
    places = list(range(len(labels)))
    texts = [str(place) for place in places]
    return Split(Rows("test", "", places, texts, texts, labels, texts, names), None, np.ones(1))


def judge(task, numbers, labels, names):
    return judge_answers(list(numbers[:, None]), split(labels, names), task)


def write(folder, **splits):
    for name, rows in splits.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines)
    return folder


@pytest.fixture
def tagged(tmp_path):
    rows = [
        {"words": ["Ann", "likes", "moviegoers"], "tags": ["B-per", "O", "O"]},
        {"words": ["\u200d", "Bo", "Lee"], "tags": ["O", "B-per", "I-per"]},  # one leaves no piece
        {"words": ["a"] * 40, "tags": ["O"] * 40},
    ]
    write(tmp_path, train=rows, test=rows, validation=rows)
    return DataConfig(
        source=str(tmp_path), validation=VALIDATION, text="words", label="tags", max_length=24
    )


def test_each_words_first_piece_bears_its_tag(tagged):
    data = load_data(tagged, NER, make_tokenizer("bert"))
    assert data.labels == ["O", "B-per", "I-per"]
    tokenizer = make_tokenizer("bert")
    for row, (words, kept) in enumerate([(3, 3), (3, 3), (40, 22)]):
        encoded = data.train.encoded[row]
        labels = [label for label in encoded["labels"] if label != IGNORED]
        assert labels == data.train.rows.labels[row][:kept].tolist()
        assert len(data.train.rows.labels[row]) == words
        pieces = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
        for piece, label in zip(pieces, encoded["labels"], strict=True):
            if piece.startswith("##") or piece in ("[CLS]", "[SEP]"):
                assert label == IGNORED
    assert data.train.token_counts[2] == 42
    assert data.tallies["test"] == {"per": 2}
    assert data.train.rows.label_texts == ["Ann: per", "Bo Lee: per", "none"]


def test_predicting_reads_the_same_places(tagged):
    data = load_data(tagged, NER, make_tokenizer("bert"))
    blind, _ = NER.encode(data.train.rows.inputs, None, make_tokenizer("bert"), 24)
    for row in range(3):
        known, unknown = data.train.encoded[row]["labels"], blind["labels"][row]
        assert [n == IGNORED for n in known] == [n == IGNORED for n in unknown]
    logits = torch.randn(1, len(known), 3)
    (read,) = NER.read(logits, torch.tensor([known]))
    expected = [logits[0, at].tolist() for at, n in enumerate(known) if n != IGNORED]
    assert read.tolist() == expected


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"words": ["a", "b"], "tags": ["O"]}, "found 2 words and 1 tags"),
        ({"words": ["a"], "tags": ["B-pre"]}, "did you mean B-per?"),
        ({"words": ["a", " "], "tags": ["O", "O"]}, "among its words: found nothing"),
        ({"words": [], "tags": []}, "expected a list of words and of tags"),
    ],
)
def test_wrong_rows_are_named(tagged, tmp_path, row, words):
    write(tmp_path, test=[row])
    with pytest.raises(DataError, match=r"data\.test: row 0") as caught:
        load_data(tagged, NER, make_tokenizer("bert"))
    assert words in str(caught.value)


def test_labels_that_are_no_tags_are_refused(tmp_path):
    rows = [{"words": ["a"], "tags": ["person"]}]
    write(tmp_path, train=rows, validation=rows, test=rows)
    with pytest.raises(DataError, match="expected O, B-TYPE and I-TYPE"):
        load_data(
            DataConfig(source=str(tmp_path), validation=VALIDATION, text="words", label="tags"),
            NER,
            make_tokenizer("bert"),
        )


def test_words_alone_give_each_word_its_commonest_tag(tagged):
    data = load_data(tagged, NER, make_tokenizer("bert"))
    answers = NER.answer_without_model(data.train, data.test)["words"].answers
    assert [NER.tell(a, g, data.labels).label for a, g in zip(
        answers, data.test.rows.inputs, strict=True
    )] == ["Ann: per", "Bo Lee: per", "none"]  # fmt: skip
    assert [len(a) for a in answers] == [3, 3, 22]


@pytest.fixture
def asked(tmp_path):
    rows = [{"q": f"What is {i}?", "a": f"It is {i}, {{q}}."} for i in range(8)]
    write(tmp_path, train=rows, test=rows[:3], validation=rows[3:5])
    return DataConfig(
        source=str(tmp_path),
        validation=VALIDATION,
        prompt="Q: {q} {{}}\n",
        completion="{a}",
        max_length=64,
    )


def test_only_the_completion_is_judged(asked):
    tokenizer = make_tokenizer("gpt2")
    data = load_data(asked, LM, tokenizer)
    encoded = data.train.encoded[2]
    judged = [n for n in encoded["labels"] if n != IGNORED]
    assert tokenizer.decode(judged) == "It is 2, {q}.<|endoftext|>"
    assert tokenizer.decode(encoded["input_ids"]).startswith("<|endoftext|>Q: What is 2? {}\nIt is")
    assert data.test.encoded["target_bytes"] == [len("It is 0, {q}.")] * 3


def test_a_long_prompt_loses_its_beginning_and_leaves_room(asked, tmp_path):
    write(tmp_path, train=[{"q": "x" * 100 + "END", "a": "y" * 100}] * 9)
    tokenizer = make_tokenizer("gpt2")
    encoded = load_data(asked, LM, tokenizer).train.encoded[0]
    assert len(encoded["input_ids"]) == 64
    assert sum(n != IGNORED for n in encoded["labels"]) == 32
    assert "END {}\n" in tokenizer.decode(encoded["input_ids"])


def test_plain_texts_are_packed_for_training_alone(tmp_path):
    texts = [f"text number {i}" for i in range(20)]
    rows = [{"text": text} for text in texts]
    write(tmp_path, train=rows, test=rows[:2], validation=rows[2:4])
    tokenizer = make_tokenizer("gpt2")
    data = load_data(
        DataConfig(source=str(tmp_path), validation=VALIDATION, max_length=32), LM, tokenizer
    )
    blocks = data.train.encoded["input_ids"]
    assert [len(block) for block in blocks[:-1]] == [32] * (len(blocks) - 1)
    stream = [n for block in blocks for n in block]
    end = "<|endoftext|>"
    assert tokenizer.decode(stream) == end + end.join(texts) + end
    assert all(labels[0] == IGNORED for labels in data.train.encoded["labels"])
    assert len(data.test.encoded) == 2


def test_a_language_models_loss_and_perplexity_are_torchs(asked):
    data = load_data(asked, LM, make_tokenizer("gpt2"))
    longest = max(map(len, data.test.encoded["labels"]))
    labels = torch.tensor(
        [row + [IGNORED] * (longest - len(row)) for row in data.test.encoded["labels"]]
    )
    logits = torch.randn(*labels.shape, 300)
    expected = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED
    )
    items = (labels != IGNORED).sum()
    assert LM.loss(logits, labels, items=items, smoothing=0.0) == pytest.approx(expected.item())
    answers = LM.read(logits, labels)
    scores = LM.score(answers, data.test)
    assert scores["loss"] == pytest.approx(expected.item(), rel=1e-6)
    assert scores["perplexity"] == pytest.approx(np.exp(expected.item()), rel=1e-5)
    size = sum(len(f"It is {i}, {{q}}.") for i in range(3))
    bits = expected.item() * items.item() / np.log(2) / size
    assert scores["bits_per_byte"] == pytest.approx(bits, rel=1e-6)
    likeliest = logits[:, :-1].argmax(-1) == labels[:, 1:]
    share = likeliest[labels[:, 1:] != IGNORED].float().mean().item()
    assert scores["token_accuracy"] == pytest.approx(share, abs=1e-6)


def test_pairs_of_texts_are_encoded_as_pairs(tmp_path):
    rows = [
        {"premise": f"a film {i}", "claim": "it is long " * 20, "label": i % 2} for i in range(12)
    ]
    write(tmp_path, train=rows, test=rows[:4], validation=rows[4:6])
    config = DataConfig(
        source=str(tmp_path),
        validation=VALIDATION,
        text="premise",
        text_pair="claim",
        max_length=16,
        labels=["n", "y"],
    )
    tokenizer = make_tokenizer("bert")
    data = load_data(config, CLASSES, tokenizer)
    encoded = data.train.encoded[0]
    assert len(encoded["input_ids"]) == 16
    assert tokenizer.decode(encoded["input_ids"]).count("[SEP]") == 2
    whole = tokenizer(rows[0]["premise"], rows[0]["claim"])["input_ids"]
    assert data.train.token_counts[0] == len(whole)
    assert data.train.rows.texts[3] == "a film 3\n" + "it is long " * 20


def test_class_weights_count_rows_as_often(tmp_path):
    rows = [{"text": f"text {i}", "label": "rare" if i % 5 == 0 else "often"} for i in range(50)]
    write(tmp_path, train=rows, test=rows[:4], validation=rows[4:9])
    config = {"source": str(tmp_path), "validation": VALIDATION, "labels": ["often", "rare"]}
    tokenizer = make_tokenizer("bert")
    data = load_data(DataConfig(**config, class_weights="balanced"), CLASSES, tokenizer)
    assert data.class_weights == [0.625, 2.5]  # rows / (classes * the class's rows)
    assert np.mean([data.class_weights[n] for n in data.train.rows.labels]) == pytest.approx(1)
    data = load_data(DataConfig(**config, class_weights=[1, 3]), CLASSES, tokenizer)
    logits, labels = torch.randn(6, 2), torch.tensor([0, 1, 0, 1, 1, 0])
    often = labels == 1
    weights = torch.tensor(data.class_weights, dtype=torch.float)
    weighed = CLASSES.loss(logits, labels, items=6, smoothing=0.0, weights=weights)
    thrice = torch.cat([logits, logits[often], logits[often]])
    again = torch.cat([labels, labels[often], labels[often]])
    assert weighed == pytest.approx(CLASSES.loss(thrice, again, items=6, smoothing=0.0).item())


@pytest.mark.parametrize("seed", range(5))
def test_regression_is_scipys_and_scikit_learns(seed):
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import mean_absolute_error, root_mean_squared_error

    task, random = find_task("sequence_regression"), np.random.default_rng(seed)
    true = random.normal(size=60)
    told = (true + random.normal(size=60)).astype(np.float32)
    found = judge(task, told[:, None], true, ["stars"])
    assert found.metrics["mean_absolute_error"] == pytest.approx(
        mean_absolute_error(true, told), abs=1e-9
    )
    assert found.metrics["rmse"] == pytest.approx(root_mean_squared_error(true, told), abs=1e-9)
    assert found.metrics["pearson"] == pytest.approx(pearsonr(true, told).statistic, abs=1e-9)
    assert found.metrics["spearman"] == pytest.approx(spearmanr(true, told).statistic, abs=1e-9)
    assert task.measure.of(found.counts.sum(axis=0)) == pytest.approx(
        found.metrics["mean_absolute_error"], abs=1e-9
    )
    alike = judge(task, np.ones((60, 1)), true, ["stars"]).metrics
    assert (alike["pearson"], alike["spearman"]) == (0.0, 0.0)


@pytest.mark.parametrize("threshold", [None, 0.2, 0.8])
def test_several_labels_are_scored_as_by_scikit_learn(threshold):
    from sklearn.metrics import accuracy_score, f1_score, log_loss

    task, random = find_task("multi_label_classification", threshold=threshold), RANDOM
    true = random.integers(0, 2, (80, 4))
    logits = random.normal(size=(80, 4)) + true
    shares = 1 / (1 + np.exp(-logits))
    given = shares >= (threshold or 0.5)
    found = judge(task, logits, true, list("abcd"))
    expected = {
        "micro_f1": f1_score(true, given, average="micro"),
        "macro_f1": f1_score(true, given, average="macro", zero_division=0),
        "exact": accuracy_score(true, given),
        "loss": log_loss(true.ravel(), shares.ravel()),
    }
    assert found.metrics == pytest.approx(expected, abs=1e-9)
    assert task.measure.of(found.counts.sum(axis=0)) == pytest.approx(
        expected["micro_f1"], abs=1e-9
    )
    loss = task.loss(torch.tensor(logits), torch.tensor(true), items=true.size, smoothing=0.0)
    assert loss.item() == pytest.approx(expected["loss"], abs=1e-6)
    answer = task.tell(logits[:1], "", list("abcd"))
    assert answer.labels == [
        name for name, is_given in zip("abcd", given[0], strict=True) if is_given
    ]
    parts = task.break_down(list(logits[:, None]), split(true, list("abcd")))
    assert [part["f1"] for part in parts] == pytest.approx(
        f1_score(true, given, average=None, zero_division=0), abs=1e-9
    )


@pytest.mark.parametrize(
    ("task", "label", "words"),
    [
        ("sequence_regression", "four", "row 1 (rows count from 0): found 'four', expected a num"),
        ("sequence_regression", None, "found None, expected a number"),
        ("multi_label_classification", ["foot"], "'foot' is not among food, staff; did you mean"),
        ("multi_label_classification", 7, "found 7, expected a list of labels"),
    ],
)
def test_labels_of_the_wrong_kind_are_named(task, label, words):
    right = 3.5 if task == "sequence_regression" else ["food", "staff"]
    raw = [{"text": "x", "label": right, ROW: 0}, {"text": "y", "label": label, ROW: 1}]
    with pytest.raises(DataError) as caught:
        find_task(task).read_rows(Table(raw), DataConfig(), ["food", "staff"], where="data.test")
    assert words in str(caught.value)


def test_labels_in_a_cell_of_a_csv_file():
    task = find_task("multi_label_classification")
    raw = [{"text": "x", "label": "food; staff", ROW: 0}, {"text": "y", "label": None, ROW: 1}]
    _, _, present, told = task.read_rows(Table(raw), DataConfig(), ["food", "staff"], where="")
    assert present.tolist() == [[1, 1], [0, 0]]
    assert told == ["food; staff", "none"]


def test_rows_of_zeros_and_ones_and_lists_of_numbers():
    task = find_task("multi_label_classification")

    def read(*labels):
        raw = Table({"text": "x", "label": label, ROW: row} for row, label in enumerate(labels))
        return task.read_rows(raw, DataConfig(), ["a", "b", "c"], where="here")[2].tolist()

    assert read([0, 0, 1], [1, 0, 1]) == [[0, 0, 1], [1, 0, 1]]  # every row is as long as labels
    assert read([2], [0, 2]) == [[0, 0, 1], [1, 0, 1]]
    with pytest.raises(DataError, match="none twice; or 0 or 1 for each label in every row"):
        read([0, 0, 1], [1])


@pytest.mark.parametrize("name", ["multi_label_classification", "token_classification"])
def test_a_columns_own_names_are_kept_in_any_order(name):
    names = ["O", "B-x", "B-y"]
    listed = datasets.Sequence(datasets.ClassLabel(names=names))
    words = (
        {"text": [["u", "v"]], ROW: [0]} if name.startswith("token") else {"text": ["u"], ROW: [0]}
    )
    rows = datasets.Dataset.from_dict(words | {"label": [[1, 0]]})
    rows = rows.cast_column("label", listed)
    config = DataConfig(labels=["O", "B-y", "B-x"])
    labels = find_task(name).read_rows(rows, config, config.labels, where="")[2]
    if name.startswith("token"):
        assert labels[0].tolist() == [2, 0]
    else:
        assert labels.tolist() == [[1, 0, 1]]


def test_long_plain_texts_are_cut_into_blocks_and_nothing_is_lost(tmp_path):
    write(
        tmp_path, train=[{"text": "y" * 100}] * 3, test=[{"text": "z"}], validation=[{"text": "w"}]
    )
    config = DataConfig(source=str(tmp_path), validation=VALIDATION, max_length=32)
    data = load_data(config, LM, make_tokenizer("gpt2"))
    assert sum(map(len, data.train.encoded["input_ids"])) == 3 * 101 + 1
    assert data.train.token_counts.tolist() == [102] * 3


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
def test_words_are_tokenised_as_in_running_text(tmp_path, family):
    rows = [{"words": ["Ann", "likes", "films"], "tags": ["B-per", "O", "O"]}]
    write(tmp_path, train=rows, test=rows, validation=rows)
    config = DataConfig(source=str(tmp_path), validation=VALIDATION, text="words", label="tags")
    tokenizer = make_tokenizer(family)
    encoded = load_data(config, NER, tokenizer).test.encoded[0]
    assert encoded["input_ids"] == tokenizer("Ann likes films")["input_ids"]
    assert [n for n in encoded["labels"] if n != IGNORED] == [1, 0, 0]


def test_a_number_that_marks_no_label_is_refused():
    raw = Table([{"text": "x", "label": -100.0, ROW: 0}])
    with pytest.raises(DataError, match="shift or scale the numbers"):
        find_task("sequence_regression").read_rows(raw, DataConfig(), ["label"], where="here")
