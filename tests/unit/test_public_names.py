"""What `import lora_tune` offers, and what it costs."""

import subprocess
import sys

import lora_tune
from tests.conftest import ROOT


def test_public_names_are_what_they_say():
    from lora_tune.predictor import load_adapter
    from lora_tune.recipe_file import load_recipe
    from lora_tune.run import run_recipe

    assert lora_tune.load_adapter is load_adapter
    assert lora_tune.load_recipe is load_recipe
    assert lora_tune.run_recipe is run_recipe
    assert set(lora_tune.__all__) == set(lora_tune._ROOMS)


def test_help_and_recipe_faults_import_nothing_heavy():
    code = (
        "import sys; from lora_tune.cli import main\n"
        "code = main(['train', 'quickstart', 'lora.rnak=1', 'training.learning_rat=1'])\n"
        "heavy = {'torch', 'transformers', 'datasets', 'peft', 'evaluate'} & set(sys.modules)\n"
        "assert code == 2 and not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
