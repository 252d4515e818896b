"""Renamed keys are reported with their new names; saved recipes are read silently."""

import pytest

from lora_tune.config.recipe import Sections
from lora_tune.config.renamed_keys import RENAMED_KEYS, move_renamed_keys
from lora_tune.config.saved_recipe import load_saved_input, load_saved_recipe
from tests.unit.config.conftest import MINIMAL

SAVED = """\
task: sequence_classification
model: {name: base}
data: {source: rows.csv, text: review}
training: {seed: 7}
ladder: {full_fine_tuning: false, last_layers: 2, learning_rate: 5.0e-05}
"""


def test_an_old_key_in_a_file_gets_one_line(write, fault_lines):
    path = write(MINIMAL + "ladder: {last_layers: 2}\n")
    assert fault_lines(path) == [f"{path}: ladder is now called baselines; rename the key"]


def test_an_old_key_in_an_override_gets_one_line(write, fault_lines):
    assert fault_lines(write(), "ladder.last_layers=1", "ladder.full_fine_tuning=true") == [
        "command line: ladder is now called baselines; rename the key"
    ]


def test_what_is_below_an_old_key_is_checked_too(write, fault_lines):
    assert fault_lines(write(), "ladder.last_layer=1") == [
        "command line: ladder is now called baselines; rename the key",
        "command line: baselines.last_layer is not a recipe key; did you mean "
        "baselines.last_layers?",
    ]


def test_a_saved_recipe_with_an_old_key_loads_silently():
    names = {"name": "mine", "where": "adapter", "base": "other"}
    recipe = load_saved_recipe(SAVED, source=None, **names)
    assert (recipe.model.name, recipe.data.text, recipe.all_seeds) == ("other", "review", [7])
    assert load_saved_input(SAVED, task=recipe.task, where="adapter").text == "review"


@pytest.mark.parametrize(
    ("recipe", "moved", "found"),
    [
        ({"data": {"old": 1, "text": "t"}}, {"data": {"new": 1, "text": "t"}}, ["data.old"]),
        ({"data": {"old": 1, "new": 2}}, {"data": {"new": 2}}, ["data.old"]),
        ({"data": {"text": "t"}}, {"data": {"text": "t"}}, []),
        ({"data": None}, {"data": None}, []),
        ({}, {}, []),
        ({"moved": {"b": 1}}, {"lora": {"a": {"b": 1}}}, ["moved"]),
    ],
)
def test_values_move_to_the_new_key(monkeypatch, recipe, moved, found):
    keys = {"data.old": "data.new", "moved": "lora.a"}
    monkeypatch.setattr("lora_tune.config.renamed_keys.RENAMED_KEYS", keys)
    assert [old for old, _ in move_renamed_keys(recipe)] == found
    assert recipe == moved


def test_a_saved_recipe_takes_its_inputs_from_renamed_keys(monkeypatch):
    monkeypatch.setattr("lora_tune.config.renamed_keys.RENAMED_KEYS", {"data.column": "data.text"})
    saved = SAVED.replace("text: review", "column: review")
    assert load_saved_input(saved, task="sequence_classification", where="x").text == "review"


def test_new_names_are_keys_and_old_names_are_not():
    for old, new in RENAMED_KEYS.items():
        assert hasattr(Sections(), new.partition(".")[0])
        assert not hasattr(Sections(), old)
