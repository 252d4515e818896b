"""The public names of the package, and what importing them costs."""

import subprocess
import sys

import pytest

import lora_tune
from tests.conftest import ROOT


def test_public_names_are_what_they_say():
    from lora_tune.artifacts.saved_adapter import load_adapter
    from lora_tune.errors import LoraTuneError
    from lora_tune.run import run_recipe
    from lora_tune.tasks.recipes import load_recipe

    assert lora_tune.load_adapter is load_adapter
    assert lora_tune.load_recipe is load_recipe
    assert lora_tune.run_recipe is run_recipe
    assert lora_tune.LoraTuneError is LoraTuneError
    assert set(lora_tune.__all__) == set(lora_tune._MODULES)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'lora_tune' has no attribute 'load_adaptor'"):
        lora_tune.load_adaptor  # noqa: B018


def test_help_and_recipe_errors_import_nothing_heavy():
    code = (
        "import sys; from lora_tune.cli import main\n"
        "code = main(['train', 'quickstart', 'lora.rnak=1', 'training.learning_rat=1'])\n"
        "heavy = {'torch', 'transformers', 'datasets', 'peft', 'evaluate'} & set(sys.modules)\n"
        "assert code == 2 and not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
