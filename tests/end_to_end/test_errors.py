"""What a user can mistype: one line, the right suggestion, exit code 2, before weights are loaded.

The base model has a real configuration and tokenizer, but its weights file cannot be read: an error
that is reported instead of it is found before weights are loaded.
"""

import json

import pytest

from lora_tune.cli import main
from tests.tiny import make_base


@pytest.fixture(scope="module")
def unreadable(tmp_path_factory):
    folder = make_base(tmp_path_factory.mktemp("base"), "distilbert-base-uncased")
    (folder / "model.safetensors").write_bytes(b"not weights")
    return folder


@pytest.fixture
def rows(tmp_path):
    rows = [{"text": f"text {i}", "label": i % 2} for i in range(40)]
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return tmp_path


@pytest.fixture
def train(unreadable, rows, tmp_path, capsys):
    def run_train(*words, recipe="distilbert_imdb_lora"):
        sizes = ["data.train.samples=null", "data.test.samples=null"]
        given = [f"model.name={unreadable}", f"data.source={rows}", *sizes, *words]
        code = main(["train", recipe, *given, "--output", str(tmp_path / "out")])
        return code, capsys.readouterr().err

    return run_train


def test_without_an_error_the_weights_are_loaded(train):
    code, errors = train()
    assert code == 2
    assert "its weights do not load" in errors


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["lora.rnak=4"], "command line: lora.rnak is not a recipe key; did you mean lora.rank?"),
        (["training.learning_rat=1"], "did you mean training.learning_rate?"),
        (["data.label=lable"], "has no column 'lable'; did you mean label?"),
        (["lora.target_modules=[q_lim]"], "'q_lim' matches no module of"),
        (["lora.target_modules=[q_lim]"], "did you mean q_lin?"),
        (["training.learning_rate=nan"], "training.learning_rate: found 'nan' (text), expected"),
        (["training.eval_strategy=epok"], "training.eval_strategy: epok is not a valid"),
        (["data.source=nowhere.csv"], "nowhere.csv: no such file or folder (looked from"),
        (["data.test.file=nowhere.csv"], "nowhere.csv: no such file (looked from"),
        (["model.name=./no-base"], "model.name: ./no-base: no such folder"),
        (["data.max_length=600"], "data.max_length: found 600 tokens, but"),
        (["task=sequence_clasification"], "did you mean sequence_classification?"),
    ],
)
def test_a_mistyped_value_gets_one_line(train, words, expected, tmp_path):
    code, errors = train(*words)
    assert code == 2
    assert expected in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_unknown_recipe_gets_one_line(train):
    code, errors = train(recipe="distilbert_imdb_lroa")
    assert (code, errors.count("\n")) == (2, 1)
    assert "did you mean distilbert_imdb_lora?" in errors


def test_a_full_output_directory_is_refused(train, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    code, errors = train()
    assert (code, errors.count("\n")) == (2, 1)
    assert "is not empty" in errors
    assert (tmp_path / "out" / "precious").read_text() == "x"


@pytest.mark.parametrize("recipe", ["distilbert_imdb_lora", "roberta_imdb_lora", "bert_imdb_lora"])
def test_offline_a_hub_recipe_gets_one_line(recipe, capsys):
    assert main(["train", recipe]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "this model cannot be fetched from https://huggingface.co (offline mode is on" in errors
    assert "set model.name to a local folder, or run the quickstart recipe" in errors


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["predict", "no-adapter", "--text", "x"], "no-adapter: no such adapter directory"),
        (["predict", "recipes", "--text", "x"], "has no adapter_config.json"),
        (["params", "quickstrat"], "did you mean quickstart?"),
        (["params", "quickstart", "lora.rank=0"], "lora.rank must be >= 1, got 0"),
        (["predict", "x", "--text", "y", "--output", "z.txt"], "expected a .csv or .jsonl file"),
        (["predict", "x", "--text", "y", "--output", "no/z.csv"], "in a folder that exists"),
        (["predict", "x", "--input", "README.md", "--output", "."], "expected a .csv or .jsonl"),
    ],
)
def test_errors_of_other_verbs_get_one_line(words, expected, capsys):
    assert main(words) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert expected in errors
