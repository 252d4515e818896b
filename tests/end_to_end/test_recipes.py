"""Every recipe through the command line, over its own architecture, shrunken, on embedded data."""

import json
import subprocess
import sys

import pytest

from lora_tune.cli import main
from lora_tune.recipe_file import load_recipe, recipe_names
from lora_tune.tasks import find_task
from tests.conftest import ROOT
from tests.tiny import make_base, reviews

ON_MINILM = {"quickstart", "minilm_imdb_lora"}  # run whole in test_quickstart.py


def base_name(recipe):
    return load_recipe(recipe).model.name


@pytest.fixture(scope="module")
def tweets(tmp_path_factory):
    """Three-way rows, as the tweet recipe wants them."""
    folder = tmp_path_factory.mktemp("tweets")
    for split in ("train", "test"):
        rows = [{"text": text, "label": i % 3} for i, text in enumerate(reviews(split)[0][:60])]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def posts(tmp_path_factory):
    """Tagged words, as the recipe for entities wants them."""
    folder = tmp_path_factory.mktemp("posts")
    for split in ("train", "validation", "test"):
        rows = []
        for text in reviews("test" if split == "test" else "train")[0][:60]:
            words = text.split()
            tags = ["B-person" if word[0].isupper() else "O" for word in words]
            rows.append({"tokens": words, "ner_tags": tags})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def instructions(tmp_path_factory):
    """Instructions, every other one with an input, and their answers."""
    folder = tmp_path_factory.mktemp("instructions")
    for split in ("train", "test"):
        rows = [
            {"instruction": f"Write as {i}.", "input": text[:9] * (i % 2), "output": text}
            for i, text in enumerate(reviews(split)[0][:60])
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize("recipe", sorted(set(recipe_names()) - ON_MINILM))
def test_a_recipe_trains_saves_and_predicts(recipe, tmp_path, tweets, posts, instructions, capsys):
    name = base_name(recipe)
    base = make_base(tmp_path / "base", name)
    sources = {
        "gpt2_tweets_lora": tweets,
        "bert_wnut17_ner_lora": posts,
        "gpt2_alpaca_lora": instructions,
    }
    source = sources.get(recipe, "embedded:movie_reviews")
    words = [
        f"model.name={base}",
        f"data.source={source}",
        "data.train.samples=40",
        "data.test.fraction=null",
        "data.test.samples=20",
        "training.num_train_epochs=1",
    ]
    run = tmp_path / "run"
    assert main(["train", recipe, *words, "--output", str(run)]) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "20 test rows" in shown
    labels = load_recipe(recipe).data.labels
    assert main(["params", recipe, *words]) == 0
    comparison = json.loads((run / "comparison.json").read_text())
    counted = capsys.readouterr().out
    assert f"{comparison['trainable_parameters']:,}" in counted
    assert f"{comparison['total_parameters']:,}" in counted
    assert f"{comparison['adapter_bytes']:,}" in counted
    task = find_task(load_recipe(recipe).task)
    asked = task.asked_columns(load_recipe(recipe).data)
    given = ["--text", "Lovely.", "Awful."]
    if len(asked) > 1:
        given = [w for text in given[1:] for w in ("--row", *(f"{name}={text}" for name in asked))]
    assert main(["predict", str(run / "adapter"), *given]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == [n.removeprefix("p_") for n in task.cell_names(labels)] + ["text"]
    assert len(table) == 4
    if task.has_classes:
        assert all(line.split()[0] in labels for line in table[2:])


def test_the_recorded_recipe_runs_again_to_the_same_adapter(tmp_path):
    """In processes of their own: nothing of the first run is left to help the second."""
    base = make_base(tmp_path / "base", "distilbert-base-uncased")

    def train(recipe, *words):
        command = [sys.executable, "-m", "lora_tune", "train", recipe, *words]
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
