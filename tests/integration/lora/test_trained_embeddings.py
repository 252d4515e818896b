"""Embeddings of a language model: resized for a new token, and trained where a recipe says so."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from lora_tune.artifacts.model_card import REPOSITORY, show_loading
from lora_tune.artifacts.saved_adapter import load_adapter
from lora_tune.commands.params import count_recipe
from lora_tune.config.data import DataConfig
from lora_tune.config.lora import LoraConfig
from lora_tune.config.recipe import Recipe
from lora_tune.lora.adapter import adapter_tensors, count_parameters, merge_adapter
from lora_tune.tasks import make_task
from tests.conftest import ROOT
from tests.parts import Parts
from tests.tiny import make_base, reviews

LM = make_task("causal_lm")
WIDTH = 32
# Name: base model, changes to its configuration, pad token, modules trained in full, and whether
# they share their weights with the output layer.
CASES = {
    "a new token": ("gpt2", {}, "<pad>", None, True),
    "tied": ("gpt2", {}, "<pad>", ["wte"], True),
    "tied, of another name": ("llama", {"tie_word_embeddings": True}, "<new>", ["embed_tokens"], 1),
    "not tied": ("llama", {"tie_word_embeddings": False}, None, ["embed_tokens"], False),
}
SCRIPT = """
import json, sys
import torch
logits = {}
for name, code in json.load(sys.stdin).items():
    given = {}
    exec(code, given)
    assert not any(module.startswith("lora_tune") for module in sys.modules)
    given["model"].eval()
    inputs = given["tokenizer"](sys.argv[1], return_tensors="pt")
    with torch.no_grad():
        logits[name] = given["model"](**inputs).logits[0].tolist()
json.dump(logits, sys.stdout)
"""
TEXT = reviews()[0][0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An adapter of each case, trained a little and saved."""
    folder, found = tmp_path_factory.mktemp("embeddings"), {}
    for name, (base, changes, pad_token, whole, _) in CASES.items():
        path = make_base(folder / name / "base", base, auto_class=LM.auto_class, **changes)
        lora = LoraConfig(rank=2, modules_to_save=whole)
        parts = Parts(path, lora, task=LM, pad_token=pad_token)
        parts.known_tokens = len(parts.tokenizer) - (pad_token is not None)
        parts.before = parts.model.get_input_embeddings().weight.detach().clone()
        parts.attach()
        parts.train_a_little()
        parts.folder = folder / name / "adapter"
        parts.bytes = parts.save(parts.folder)
        found[name] = parts
    return found


@pytest.fixture(scope="module")
def alone(trained):
    """Each adapter's logits for TEXT, loaded with PEFT alone as its model card says."""
    codes = {}
    for name, parts in trained.items():
        code = show_loading(LM, [], model=parts.config, unquantized=[])
        code = code.replace(REPOSITORY, str(parts.folder))
        codes[name] = code.split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, TEXT],
        input=json.dumps(codes),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return {name: torch.tensor(logits) for name, logits in json.loads(done.stdout).items()}


def compute_logits(parts, model):
    inputs = parts.tokenizer(TEXT, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits[0]


@pytest.mark.parametrize("name", CASES)
def test_a_loaded_adapter_gives_the_same_logits(trained, alone, name):
    parts = trained[name]
    right = compute_logits(parts, parts.adapted)
    assert right.shape[1] == len(parts.tokenizer)
    loaded = load_adapter(parts.folder).model
    assert torch.equal(compute_logits(parts, loaded), right)
    # With PEFT alone, the row of an untrained token gets other random values.
    columns = len(parts.tokenizer) if CASES[name][3] else parts.known_tokens
    assert torch.allclose(alone[name][:, :columns], right[:, :columns], atol=1e-5)


def test_untrained_embeddings_are_not_saved(trained):
    parts = trained["a new token"]
    tensors = load_file(parts.folder / "adapter_model.safetensors")
    assert all(".lora_" in tensor for tensor in tensors)
    assert sum(tensor.numel() for tensor in tensors.values()) == count_parameters(parts.adapted)[0]
    assert parts.bytes < 4 * count_parameters(parts.adapted)[0] + 10_000


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name][3]])
def test_trained_embeddings_are_counted_and_saved(trained, name):
    parts, tied = trained[name], CASES[name][4]
    tokens = len(parts.tokenizer)
    inner, outer = parts.adapted.get_input_embeddings(), parts.adapted.get_output_embeddings()
    assert not torch.equal(inner.weight, parts.before)
    assert (outer.weight is inner.weight) == tied
    trainable, total = count_parameters(parts.adapted)
    factors = sum(p.numel() for n, p in parts.adapted.named_parameters() if ".lora_" in n)
    assert trainable == factors + tokens * WIDTH
    recipe = Recipe(
        task=LM.name, model=parts.config, lora=parts.lora, data=DataConfig(max_length=64), name="x"
    )
    count = count_recipe(recipe)
    assert (count.trainable_parameters, count.total_parameters) == (trainable, total)
    assert count.adapter_bytes == parts.bytes
    tensors = load_file(parts.folder / "adapter_model.safetensors")
    assert tensors.keys() == adapter_tensors(parts.adapted).keys()
    saved = next(tensors[tensor] for tensor in tensors if CASES[name][3][0] in tensor)
    assert torch.equal(saved, inner.weight)


@pytest.mark.parametrize("name", CASES)
def test_a_merged_model_gives_the_same_logits_and_stays_tied(trained, tmp_path, name):
    from transformers import AutoModelForCausalLM

    parts = trained[name]
    right = compute_logits(parts, parts.adapted)
    merged = merge_adapter(load_adapter(parts.folder).model)
    merged.save_pretrained(tmp_path / "merged")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.allclose(compute_logits(parts, loaded), right, atol=1e-5)
    inner, outer = loaded.get_input_embeddings().weight, loaded.get_output_embeddings().weight
    assert (inner is outer) == CASES[name][4]
