"""Every recipe on the command line, with a tiny model of its architecture and few rows."""

import json
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from lora_tune.artifacts.reload_check import ReloadCheck, record_outputs
from lora_tune.artifacts.saved_adapter import load_adapter
from lora_tune.cli import main
from lora_tune.config.recipe_file import recipe_names
from lora_tune.tasks import make_task
from lora_tune.tasks.recipes import load_recipe
from tests.conftest import ROOT
from tests.tiny import make_base, reviews

ON_MINILM = {"quickstart", "minilm_imdb_lora"}  # see test_quickstart.py


def base_name(recipe):
    return load_recipe(recipe).model.name


# What a small run changes in a recipe, besides its base model and its source of rows.
FRACTIONS = ["data.test.fraction=0.25", "data.validation.fraction=0.1"]
SMALL = {
    "deberta_mnli_lora": [
        "data.train.samples=60",
        "data.test.samples=20",
        "data.validation.fraction=0.1",
    ],
    "distilbert_squad_lora": [
        "data.train.samples=60",
        "data.test.samples=20",
        "data.validation.fraction=0.1",
    ],
    "gpt2_alpaca_lora": ["data.train.samples=80", *FRACTIONS],
    "llama_8b_alpaca_qlora": ["data.train.samples=80", *FRACTIONS],
    "llama_alpaca_qlora": ["data.train.samples=80", *FRACTIONS],
    "qwen_instruct_qlora": ["data.train.samples=80", *FRACTIONS],
}
# Wide enough for the rank of the recipe.
WIDE = {"llama_8b_alpaca_qlora": {"hidden_size": 64, "intermediate_size": 128}}


def instructions(split):
    """Rows of Alpaca."""
    for number, text in enumerate(reviews(split)[0][:120]):
        words = text.split()
        given = " ".join(words) if number % 3 else ""  # most of Alpaca's rows have no input
        yield {"instruction": f"Say {words[0]}.", "input": given, "output": words[0], "text": ""}


def answers(split):
    """Rows of Dolly."""
    for row in instructions(split):
        question = {"instruction": row["instruction"], "context": row["input"]}
        yield question | {"response": row["output"], "category": "open_qa"}


def pairs(split):
    """Rows of MultiNLI, whose labels are numbers."""
    texts = reviews("test" if split == "validation_matched" else split)[0][:120]
    for number, text in enumerate(texts):
        second = (text, texts[0], f"It is not so that {text}")[number % 3]
        row = {"promptID": number, "premise": text, "hypothesis": second, "genre": "fiction"}
        yield row | {"label": number % 3}


def posts(split):
    """Words with BIO tags."""
    for text in reviews("test" if split == "test" else "train")[0][:60]:
        words = text.split()
        tags = ["B-person" if word[0].isupper() else "O" for word in words]
        yield {"tokens": words, "ner_tags": tags}


def dialogues(split):
    """Rows of DialogSum."""
    for number, text in enumerate(reviews("test" if split == "test" else "train")[0][:60]):
        first, *rest = text.split(". ")
        said = f"#Person1#: {first}\n#Person2#: {'. '.join(rest)}"
        yield {"id": str(number), "dialogue": said, "summary": first, "topic": "film"}


def topics(split):
    """Rows of AG News, whose labels are numbers."""
    return ({"text": t, "label": i % 4} for i, t in enumerate(reviews(split)[0][:100]))


def tweets(split):
    """Rows of three-way sentiment, whose labels are numbers."""
    return ({"text": t, "label": i % 3} for i, t in enumerate(reviews(split)[0][:60]))


def paragraphs(split):
    """Rows of SQuAD."""
    for number, text in enumerate(reviews("train" if split == "train" else "test")[0][:60]):
        answer = text.split()[number % 5]
        answers = {"text": [answer], "answer_start": [text.index(answer)]}
        row = {"id": str(number), "title": "Film", "context": text, "answers": answers}
        yield row | {"question": f"What is word {number % 5}?"}


# Rows like those of each recipe's source, and its splits; the others use the embedded reviews.
ROWS = {
    "bert_wnut17_ner_lora": (posts, ("train", "validation", "test")),
    "deberta_mnli_lora": (pairs, ("train", "validation_matched")),
    "distilbert_squad_lora": (paragraphs, ("train", "validation")),
    "falcon_7b_sentiment_qlora": (tweets, ("train", "test")),
    "flan_t5_summarization_lora": (dialogues, ("train", "validation", "test")),
    "gpt2_alpaca_lora": (instructions, ("train",)),
    "gpt2_tweets_lora": (tweets, ("train", "test")),
    "llama_8b_alpaca_qlora": (instructions, ("train",)),
    "llama_alpaca_qlora": (instructions, ("train",)),
    "modernbert_agnews_lora": (topics, ("train", "test")),
    "qwen_instruct_qlora": (answers, ("train",)),
}


def write_rows(recipe, folder):
    """Write a recipe's rows; returns its data.source."""
    if recipe not in ROWS:
        return "embedded:movie_reviews"
    make, splits = ROWS[recipe]
    folder.mkdir()
    for split in splits:
        lines = [json.dumps(row) + "\n" for row in make(split)]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return str(folder)


@pytest.fixture
def quick_reload(monkeypatch):
    """Let the reload check run in this process; a fresh one takes seconds."""

    def check_here(folder, trained):
        loaded = record_outputs(load_adapter(folder), trained.inputs)
        for found, expected in zip(loaded.outputs, trained.outputs, strict=True):
            assert found == pytest.approx(expected, abs=1e-4)
        assert loaded.tensors == trained.tensors
        return ReloadCheck(len(trained.inputs), 0.0)

    monkeypatch.setattr("lora_tune.run.check_reload", check_here)


@pytest.mark.parametrize("recipe", sorted(set(recipe_names()) - ON_MINILM))
def test_a_recipe_trains_saves_and_predicts(recipe, tmp_path, quick_reload, capsys):
    base = make_base(tmp_path / "base", base_name(recipe), **WIDE.get(recipe, {}))
    words = [
        f"model.name={base}",
        "model.revision=null",
        f"data.source={write_rows(recipe, tmp_path / 'rows')}",
        *SMALL.get(recipe, ["data.train.samples=40", "data.test.samples=20"]),
        "training.num_train_epochs=1",
    ]
    run = tmp_path / "run"
    assert main(["train", recipe, *words, "--output", str(run)]) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "20 test rows" in shown
    config = load_recipe(recipe)
    task = make_task(config.task)
    assert main(["params", recipe, *words]) == 0
    comparison = json.loads((run / "comparison.json").read_text())
    counted = capsys.readouterr().out
    assert f"{comparison['trainable_parameters']:,}" in counted
    assert f"{comparison['total_parameters']:,}" in counted
    assert f"{comparison['adapter_bytes']:,}" in counted
    tensors = load_file(run / "adapter" / "adapter_model.safetensors")
    untrained = [
        name for name, tensor in tensors.items() if ".lora_B." in name and not tensor.any()
    ]
    assert not untrained, "training reached every layer"
    if task.generation is not None:
        assert comparison["adapted"]["loss"] < comparison["base"]["loss"]
    needed = [name for _, name in task.columns(config.data, labeled=False)]
    given = ["--text", "Lovely.", "Awful."]
    if len(needed) > 1:
        given = [w for text in given[1:] for w in ("--row", *(f"{name}={text}" for name in needed))]
    assert main(["predict", str(run / "adapter"), *given]) == 0
    table = capsys.readouterr().out.splitlines()
    labels = config.data.labels
    names = [name.removeprefix("p_") for name in task.prediction_columns(labels)]
    assert sorted(table[0].split()) == sorted([*names, "text"])
    if task.has_classes:
        assert len(table) == 4
        assert all(line.split()[0] in labels for line in table[2:])


def test_the_recorded_recipe_runs_again_to_the_same_adapter(tmp_path):
    """Each in its own process, so that nothing of the first run helps the second."""
    base = make_base(tmp_path / "base", "distilbert-base-uncased")

    def train(recipe, *words):
        command = [sys.executable, "-m", "tests.train_unchecked", "train", recipe, *words]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)

    first, second = tmp_path / "first", tmp_path / "second"
    train(
        "quickstart",
        f"model.name={base}",
        "data.train.samples=40",
        "training.num_train_epochs=1",
        "--output",
        str(first),
    )
    train(str(first / "recipe.yaml"), "--output", str(second))
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (first / "adapter" / file).read_bytes() == (second / "adapter" / file).read_bytes()
