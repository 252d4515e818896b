"""`predict` on rows of several columns: pairs of texts, and prompts filled as in training."""

import json

import pytest

from lora_tune.artifacts.saved_adapter import load_adapter
from lora_tune.cli import main
from lora_tune.data.prompts import render_prompt
from lora_tune.errors import DataError
from lora_tune.evaluation.generation import TextGenerator
from lora_tune.tasks import make_task
from tests.chat_templates import BRACKETS
from tests.parts import Parts
from tests.tiny import make_base

PAIRS = [("It is long.", "It is a film."), ("A dull film.", "It shines."), ("Fine.", "Bad.")]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """An adapter for a premise and a claim."""
    folder = tmp_path_factory.mktemp("pairs")
    parts = Parts(make_base(folder / "base", "distilbert-base-uncased"))
    parts.attach()
    parts.train_a_little(20)
    parts.save(folder / "adapter", recipe="data: {text: premise, text_pair: claim}\n")
    return folder / "adapter"


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    """Makes adapters for a language model, with the `data:` section of any recipe."""
    root = tmp_path_factory.mktemp("language_model")
    base = make_base(root / "base", "gpt2", auto_class="AutoModelForCausalLM")

    def make(name, data, chat_template=None):
        parts = Parts(base, task=make_task("causal_lm"))
        parts.attach()
        parts.tokenizer.chat_template = chat_template
        parts.save(root / name, recipe=json.dumps({"data": data}))
        return root / name

    return make


@pytest.fixture
def prompts(monkeypatch):
    """The prompts that the model gets."""
    given = []

    def generate(generator, _, inputs, **__):
        given.extend(render_prompt(one, generator.tokenizer) for one in inputs)
        return [f"text {number}" for number, _ in enumerate(inputs)]

    monkeypatch.setattr(TextGenerator, "generate", generate)
    return given


def predict(adapter, *words, code=0):
    assert main(["predict", str(adapter), *map(str, words)]) == code


def test_pairs_of_texts(pairs, tmp_path, capsys):
    adapter = load_adapter(pairs)
    assert adapter.preprocessor.columns == ["premise", "claim"]
    rows = [{"claim": claim, "premise": premise} for premise, claim in PAIRS]
    right = adapter.predict(rows)
    logits = adapter.compute_outputs(
        [{"text": premise, "text_pair": claim} for premise, claim in PAIRS]
    )
    assert [adapter.task.format(row, None, adapter.labels) for row in logits] == right
    assert len({str(prediction.probabilities) for prediction in right}) == 3

    source, output = tmp_path / "given.jsonl", tmp_path / "out.jsonl"
    lines = [json.dumps(row | {"id": i}) for i, row in enumerate(rows)]
    source.write_text("\n".join([*lines, '{"premise": "Alone."}', '{"claim": 7, "premise": "x"}']))
    predict(pairs, "--input", source, "--output", output, code=2)
    errors = capsys.readouterr().err.splitlines()[-2:]
    place = "(rows count from 0): data.text_pair (claim)"
    assert errors[0].endswith(f"row 3 {place}: found nothing, expected text")
    labels = [prediction.label for prediction in right]
    predicted = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["label"] for row in predicted][:-1] == [*labels, None]
    assert predicted[-1]["label"], "a number is its text"
    assert predicted[1]["claim"] == "It shines."
    assert [row.get("id") for row in predicted] == ["0", "1", "2", None, None]


def test_a_row_on_the_command_line(pairs, capsys):
    first, second = ([f"claim={claim}", f"premise={premise}"] for premise, claim in PAIRS[:2])
    predict(pairs, "--row", *first, "--row", *second)
    table = capsys.readouterr().out.splitlines()
    right = load_adapter(pairs).predict([{"premise": p, "claim": c} for p, c in PAIRS[:2]])
    assert [line.split()[0] for line in table[2:]] == [prediction.label for prediction in right]
    assert table[2].endswith("It is long. It is a film.")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--text", "A"],
            "--text: found one text, expected the columns premise, claim; use --row ",
        ),
        (["--row", "premise=A"], "--row: found the columns premise, expected premise, claim"),
        (
            ["--row", "premise=A", "calim=B"],
            "--row: found the columns premise, calim, expected premise, claim",
        ),
        (
            ["--input", "FILE", "--column", "x"],
            "--column: names a single column, but the adapter needs",
        ),
        (
            ["--input", "FILE"],
            "FILE: has no column 'claim'; did you mean calim?; it has pre",
        ),
        (
            ["--input", "LINES"],
            "LINES: lines of text have no columns, expected premise, claim; use",
        ),
    ],
)
def test_wrong_columns_are_reported_before_weights_are_loaded(
    pairs, tmp_path, monkeypatch, capsys, words, line
):
    monkeypatch.setattr("lora_tune.commands.predict.load_predictor", None)
    places = {"FILE": tmp_path / "given.csv", "LINES": tmp_path / "given.txt"}
    places["FILE"].write_text("premise,calim\nA,B\n")
    places["LINES"].write_text("A\n")
    predict(pairs, *[places.get(word, word) for word in words], code=2)
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    for name, place in places.items():
        line = line.replace(name, str(place))
    assert errors.startswith(line)


def test_a_wrong_row_is_named_in_python(pairs):
    adapter = load_adapter(pairs)
    with pytest.raises(DataError, match=r"texts, row 1 .*: found one text, expected the columns"):
        adapter.predict([{"premise": "A", "claim": "B"}, "C"])
    with pytest.raises(DataError, match=r"row 0 .*: found the columns text, expected premise, cl"):
        adapter.predict([{"text": "A"}])


ALPACA = {"prompt": "Do: {task}\n{more}\nDone: ", "completion": "{out}"}


@pytest.mark.parametrize(
    ("data", "words", "seen"),
    [
        ({}, ["--text", "Once"], ["Once"]),
        (
            {"prompt": "Q: {q}\nA: ", "completion": "{a}"},
            ["--text", "Why?", "Who?"],
            ["Q: Why?\nA: ", "Q: Who?\nA: "],
        ),
        ({"prompt": "Joke: ", "completion": "{a}"}, ["--text", "A man"], ["Joke: A man"]),
        ({"completion": "{a}"}, ["--text", "A man"], ["A man"]),
        (ALPACA, ["--row", "task=Add", "more=1 + 1"], ["Do: Add\n1 + 1\nDone: "]),
        (ALPACA, ["--row", "task=Go", "more="], ["Do: Go\n\nDone: "]),
    ],
)
def test_the_prompt_is_filled_as_in_training(language_model, prompts, tmp_path, data, words, seen):
    predict(language_model(tmp_path.name, data), *words)
    assert prompts == seen


def test_columns_of_a_file_fill_the_prompt(language_model, prompts, tmp_path, capsys):
    adapter = language_model("alpaca", ALPACA)
    source, output = tmp_path / "given.csv", tmp_path / "out.csv"
    source.write_text("out,more,task,id\nx,,Go,1\ny,2,,2\nz,,,3\nw,1 + 1,Add,4\n")
    predict(adapter, "--input", source, "--output", output, code=2)
    assert prompts == ["Do: Go\n\nDone: ", "Do: \n2\nDone: ", "Do: Add\n1 + 1\nDone: "]
    assert "row 2 (rows count from 0): found nothing, expected text" in capsys.readouterr().err
    assert output.read_text().splitlines()[-1] == "w,1 + 1,Add,4,text 2"


def test_another_column_fills_the_prompt(language_model, prompts, tmp_path):
    adapter = language_model("named", {"prompt": "Q: {q}\nA: ", "completion": "{a}"})
    source = tmp_path / "given.csv"
    source.write_text("question,id\nWhy?,1\n")
    predict(adapter, "--input", source, "--column", "question")
    assert prompts == ["Q: Why?\nA: "]


def test_a_chat_takes_a_turn_or_a_conversation(language_model, prompts, tmp_path, capsys):
    adapter = language_model("chat", {"messages": "talk"}, BRACKETS)
    begin = "<|endoftext|>"
    predict(adapter, "--text", "Hi")
    assert prompts.pop() == f"{begin}[INST] Hi [/INST]"
    predict(adapter, "--row", 'talk=[{"role": "user", "content": "Hi"}]')
    assert prompts.pop() == f"{begin}[INST] Hi [/INST]"
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}]
    more = {"from": "human", "value": "And?"}
    source = tmp_path / "given.jsonl"
    talks = [turns, [*turns, more], [*turns, more, more], "Hi"]
    source.write_text("".join(json.dumps({"talk": talk}) + "\n" for talk in talks))
    predict(adapter, "--input", source, code=2)
    first = f"{begin}[INST] Hi [/INST]"
    assert prompts == [first, f"{first} Yes{begin}[INST] And? [/INST]", first]
    errors = capsys.readouterr().err
    assert "row 2 (rows count from 0): the chat template rejects it: Conversation" in errors


def test_a_chat_gets_no_second_start_token(language_model, monkeypatch):
    adapter = load_adapter(language_model("started", {"messages": "talk"}, BRACKETS))
    given = []

    def generate(**words):
        given.append(adapter.tokenizer.batch_decode(words["input_ids"]))
        return words["input_ids"]

    monkeypatch.setattr(adapter.model, "generate", generate)
    adapter.predict(["Hi"])
    assert given == [["<|endoftext|>[INST] Hi [/INST]"]]


def test_an_environment_variable_in_a_prompt_is_resolved_again(
    language_model, prompts, monkeypatch, capsys
):
    adapter = language_model(
        "interpolated", {"prompt": "${oc.env:INSTRUCTION} {q}", "completion": "{a}"}
    )
    predict(adapter, "--text", "x", code=2)
    assert (
        "data.prompt cannot be resolved: KeyError raised while resolving" in capsys.readouterr().err
    )
    monkeypatch.setenv("INSTRUCTION", "Say")
    predict(adapter, "--text", "x")
    assert prompts == ["Say x"]
