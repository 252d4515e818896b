"""Mean-pooled models: logits that plain transformers and PEFT give too."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from lora_tune.artifacts.saved_adapter import load_adapter
from lora_tune.commands.merge import MergeOptions, merge_adapters
from lora_tune.config.model import ModelConfig
from lora_tune.models.checkpoint import resolve_checkpoint
from lora_tune.models.pooling import POOLING_FILE, resolve_pooling
from lora_tune.tasks import make_task, pooled_task
from tests.parts import Parts

TASK = pooled_task(make_task("sequence_classification"), "mean")
TEXTS = ["A fine film.", "A dull film, and far too long for what it has to say."]
SCRIPT = """
import json, sys
texts = json.load(sys.stdin)
exec(sys.argv[1].replace('["..."]', "texts"))
assert not any(name.startswith("lora_tune") for name in sys.modules)
print(json.dumps(logits.tolist()))
"""


def run_card(card, place, texts):
    """Run a card's lines of Python in a fresh process; returns the logits that they compute."""
    code = card.split("```python\n")[1].split("```")[0]
    code = code.replace("PATH-OR-REPO", str(place)).replace("PATH", str(place))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, code],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout))


@pytest.fixture(scope="module")
def sentence_encoder(bases, tmp_path_factory):
    """A base model that sentence-transformers pools by the mean."""
    folder = tmp_path_factory.mktemp("encoder") / "base"
    shutil.copytree(bases["bert-base-cased"], folder)
    (folder / POOLING_FILE).parent.mkdir()
    (folder / POOLING_FILE).write_text('{"pooling_mode_mean_tokens": true}')
    return folder


@pytest.fixture(scope="module")
def pooled_run(run_tiny, sentence_encoder):
    return run_tiny(model={"name": str(sentence_encoder)}, training={"learning_rate": 0.02})


@pytest.mark.parametrize("name", ["bert-base-cased", "distilbert-base-uncased", "gpt2"])
def test_padding_is_not_a_part_of_the_mean(bases, name):
    parts = Parts(bases[name], task=TASK)
    rows = parts.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        together = parts.model(**rows).logits
        alone = [parts.model(**parts.tokenizer(t, return_tensors="pt")).logits[0] for t in TEXTS]
    assert together.shape == (2, 3)
    assert together.numpy() == pytest.approx(torch.stack(alone).numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("content", "config", "expected"),
    [
        ('{"pooling_mode_mean_tokens": true}', "auto", "mean"),
        ('{"pooling_mode_mean_tokens": true}', "model", "model"),
        ('{"pooling_mode_mean_tokens": false}', "auto", "model"),
        ('{"pooling_mode_mean_tokens": false}', "mean", "mean"),
        ("no JSON", "auto", "model"),
        (None, "auto", "model"),
    ],
)
def test_a_base_model_says_how_it_is_pooled(bases, tmp_path, content, config, expected):
    folder = tmp_path / "base"
    shutil.copytree(bases["bert-base-cased"], folder)
    if content is not None:
        (folder / POOLING_FILE).parent.mkdir()
        (folder / POOLING_FILE).write_text(content)
    model = ModelConfig(name=str(folder), pooling=config)
    assert resolve_pooling(resolve_checkpoint(model), model) == expected


def test_a_saved_adapter_pools_as_it_was_trained(pooled_run):
    config = json.loads((pooled_run / "adapter" / "adapter_config.json").read_text())
    assert config["task_type"] == "TOKEN_CLS"
    predictor = load_adapter(pooled_run / "adapter")
    logits = np.concatenate(predictor.compute_outputs(TEXTS))
    card = (pooled_run / "adapter" / "README.md").read_text()
    assert run_card(card, pooled_run / "adapter", TEXTS) == pytest.approx(logits, abs=1e-4)


def test_a_merged_model_pools_as_its_adapter(pooled_run, tmp_path):
    parities = []
    folder = merge_adapters(
        [pooled_run / "adapter"],
        output=tmp_path / "merged",
        options=MergeOptions(),
        show=parities.append,
    )
    assert parities[0].flipped_predictions == 0
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["BertForTokenClassification"]
    logits = np.concatenate(load_adapter(pooled_run / "adapter").compute_outputs(TEXTS))
    card = (folder / "README.md").read_text()
    assert run_card(card, folder, TEXTS) == pytest.approx(logits, abs=1e-4)
    model = ModelConfig(name=str(folder))
    assert resolve_pooling(resolve_checkpoint(model), model) == "mean", "to train it further"


def test_a_mask_by_position_is_a_mask(bases):
    parts = Parts(bases["bert-base-cased"], task=TASK)
    rows = parts.tokenizer(TEXTS, padding=True, return_tensors="pt")
    ids, mask = rows["input_ids"], rows["attention_mask"]
    with torch.no_grad():
        named = parts.model(input_ids=ids, attention_mask=mask).logits
        assert torch.equal(parts.model(ids, mask).logits, named)
