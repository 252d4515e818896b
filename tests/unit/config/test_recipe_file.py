"""Recipe files and overrides: what a recipe is made of, and how faults are answered."""

import pytest

from lora_tune.config.recipe_file import load_recipe, recipe_names
from lora_tune.config.training import TRAINING_DEFAULTS
from lora_tune.tasks import make_task
from tests.unit.config.conftest import MINIMAL


def test_defaults_fill_what_a_recipe_leaves_out(write):
    recipe = load_recipe(write())
    assert recipe.name == "mine"
    assert recipe.lora.target_modules == "all-linear"
    assert recipe.data.max_length == 512
    assert recipe.training == TRAINING_DEFAULTS


def test_a_later_override_replaces_an_earlier_one(load):
    recipe = load("lora.rank=4", "lora.rank=2", text="lora: {rank: 16, alpha: 32}\n")
    assert (recipe.lora.rank, recipe.lora.alpha) == (2, 32)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("lora.rank", "lora.rank: expected key=value, such as lora.rank=16"),
        ("lora=[1", "lora=[1: while parsing a flow sequence"),
        (
            "data.text=${oc.env:NOT_SET_HERE}",
            "data.text cannot be resolved: KeyError raised while resolving interpolation: "
            "\"Environment variable 'NOT_SET_HERE' not found\"",
        ),
        ("lora.rank=${lora.rank}", "lora.rank cannot be resolved: Recursive interpolation"),
        ("data=${lora}", "data is a section, so it cannot be an interpolation"),
        ("data.source=???", "data.source is required: give it in the recipe, or as data.source=.."),
    ],
)
def test_a_wrong_override_gets_one_line(write, fault_lines, override, line):
    (only,) = fault_lines(write(), override)
    assert only.startswith(f"command line: {line}")


def test_faults_of_file_and_command_line_come_together(write, fault_lines):
    path = write(MINIMAL + "lora: {rnak: 4, alpha: much}\n")
    assert fault_lines(path, "training.learning_rat=1", "data.seed=${nowhere}", "lora.rank") == [
        "command line: lora.rank: expected key=value, such as lora.rank=16",
        "command line: data.seed cannot be resolved: Interpolation key 'nowhere' not found",
        f"{path}: lora.alpha: found 'much' (text), expected a number",
        f"{path}: lora.rnak is not a recipe key; did you mean lora.rank?",
        "command line: training.learning_rat is not a field of transformers.TrainingArguments; did "
        "you mean training.learning_rate?",
    ]


def test_a_fault_names_where_its_key_was_set_last(write, fault_lines):
    path = write(MINIMAL + "lora: {rank: 4}\nbaselines: {last_layers: -1}\n")
    assert fault_lines(path, "lora.rank=0")[0].startswith("command line: lora.rank must be >= 1")
    assert fault_lines(path, "lora.rank.x=4")[0].startswith("command line: lora.rank: found {'x'")
    assert fault_lines(path, "lora.alpha=2")[0].startswith(f"{path}: baselines.last_layers must be")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: {source: x}", "model.name is required"),
        ("lora: {rank: 1, rank: 2}", "duplicate key"),
        ("lora: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("- 1", "expected a mapping"),
        ("lora: {rank: 1", "line 2: did not find expected ',' or '}'"),
    ],
)
def test_a_wrong_file_gets_one_line(write, fault_lines, text, words):
    assert words in fault_lines(write(text + "\n"))[0]


def test_unknown_names_get_a_suggestion(fault_lines):
    assert fault_lines("quikstart") == [
        "quikstart: no recipe of that name; did you mean quickstart?"
    ]
    assert "no such recipe file" in fault_lines("recipes/nope.yaml")[0]


def test_the_recorded_text_keeps_interpolations_and_loads_again(write, monkeypatch):
    monkeypatch.setenv("PLACE", "secret-place")
    path = write("model: {name: base}\ndata: {source: '${oc.env:PLACE}'}\n")
    recipe = load_recipe(path, ["lora.rank=3", "lora.alpha=${lora.rank}"])
    assert recipe.data.source == "secret-place"
    assert recipe.source_as_written == "${oc.env:PLACE}"
    assert recipe.lora.alpha == 3
    assert "secret-place" not in recipe.text
    again = load_recipe(write(recipe.text))
    assert (again.data, again.lora, again.training) == (recipe.data, recipe.lora, recipe.training)


def test_an_interpolated_value_of_a_wrong_type_is_not_shown(write, fault_lines, monkeypatch):
    monkeypatch.setenv("PLACE", "secret-place")
    assert fault_lines(write(), "lora.rank=${oc.env:PLACE}") == [
        "command line: lora.rank has an interpolated value that is not a whole number"
    ]


def test_a_secret_cannot_get_into_an_adapter(write, fault_lines, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "0123456789")
    assert fault_lines(write(), "data.labels=[a,'${oc.env:MY_TOKEN}']") == [
        "command line: data.labels is written into the adapter, so it cannot come from the secret "
        "MY_TOKEN"
    ]


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_loads(name):
    recipe = load_recipe(name)
    assert make_task(recipe.task).labels(recipe.data) is not None, "known without rows"
