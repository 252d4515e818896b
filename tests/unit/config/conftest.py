"""Recipes written to a file, loaded, and the lines that a faulty one is answered with."""

import pytest

from lora_tune.errors import RecipeError
from lora_tune.tasks.recipes import load_recipe

MINIMAL = "model: {name: base}\ndata: {source: rows.csv}\n"


@pytest.fixture
def write(tmp_path):
    def write_recipe(text=MINIMAL):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return str(path)

    return write_recipe


@pytest.fixture
def load(write):
    def load_with(*overrides, text=""):
        return load_recipe(write(MINIMAL + text), overrides)

    return load_with


@pytest.fixture
def fault_lines():
    def load_faulty(name, *overrides):
        with pytest.raises(RecipeError) as caught:
            load_recipe(name, overrides)
        return str(caught.value).splitlines()

    return load_faulty
