"""docs/recipe.md is what its generator writes, explains every key, and its examples load."""

import re
import shlex
from dataclasses import fields, is_dataclass

import pytest

from docs.generate_recipe_page import INTRODUCTION, PAGE, explain_fields, page
from lora_tune.config.data import SplitConfig
from lora_tune.config.recipe import Recipe, Sections
from lora_tune.config.recipe_file import load_recipe
from lora_tune.config.training import REFUSED_FIELDS, TrainingDefaults
from lora_tune.errors import RecipeError

SECTIONS = [type(getattr(Sections(), f.name)) for f in fields(Sections)]
DATACLASSES = [Sections, Recipe, SplitConfig, TrainingDefaults, *filter(is_dataclass, SECTIONS)]


def test_the_page_is_what_its_generator_writes():
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs`"


@pytest.mark.parametrize("section", DATACLASSES)
def test_every_key_has_an_explanation(section):
    own = {name for name in section.__annotations__ if name in section.__dataclass_fields__}
    explained = explain_fields(section)
    assert set(explained) == own
    assert all(text.endswith(".") for text in explained.values())


def test_a_missing_explanation_is_found():
    assert explain_fields(Half) == {"first": "The first."}


class Half:
    first: int = 1
    """The first."""
    second: int = 2
    third = 3
    """Not a field."""


def test_every_key_is_on_the_page():
    keys = set(re.findall(r"^\| `([\w.]+)` \|", page(), re.MULTILINE))
    for field in fields(Sections):
        section = getattr(Sections(), field.name)
        names = [f.name for f in fields(section)] if is_dataclass(section) else []
        assert {field.name, *(f"{field.name}.{name}" for name in names)} <= keys
    assert {f"training.{name}" for name in Sections().training} <= keys
    assert {f"training.{name}" for name in REFUSED_FIELDS} <= keys


def test_the_example_and_the_overrides_load(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", INTRODUCTION, re.DOTALL)
    (tmp_path / "my_recipe.yaml").write_text(example)
    assert load_recipe(str(tmp_path / "my_recipe.yaml")).seeds == [1, 2, 3]
    (commands,) = re.findall(r"```sh\n(.*?)```", INTRODUCTION, re.DOTALL)
    for command in commands.replace("\\\n", " ").splitlines():
        program, verb, name, *overrides = shlex.split(command)
        assert (program, verb) == ("lora-tune", "train")
        load_recipe(name, overrides)


def test_the_faults_are_what_the_command_prints():
    ((command, lines),) = re.findall(
        r"```\n\$ lora-tune train (.*?)\n(.*?)\n```", page(), re.DOTALL
    )
    name, *overrides = shlex.split(command)
    with pytest.raises(RecipeError) as caught:
        load_recipe(name, overrides)
    assert str(caught.value) == lines
