"""Several adapters combined into one, on one base model."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lora_tune.config.lora import LoraConfig
from lora_tune.errors import ArtifactError
from lora_tune.lora.adapter import merge_adapter
from lora_tune.lora.combination import combine_adapters
from tests.parts import Parts
from tests.tiny import make_base


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Save trained adapters of one base model; returns a function that returns their folders."""
    root = tmp_path_factory.mktemp("several")
    base = make_base(root / "base", "bert-base-cased")

    def save(seed, **keys):
        parts = Parts(base, LoraConfig(rank=4, alpha=8, dropout=0.0, **keys), seed=seed)
        parts.attach()
        parts.train_a_little()
        parts.restore()
        folder = root / f"{seed} {sorted(keys)} {len(list(root.iterdir()))}"
        parts.save(folder)
        return folder

    save.base = base
    return save


def combine(base, folders):
    model = Parts(base, LoraConfig(rank=4)).model
    return combine_adapters(model, folders, weights=[0.7, 0.3], combination="linear", density=0.5)


@pytest.mark.parametrize(
    "keys",
    [
        {"use_rslora": True},
        {"rank_pattern": {"query": 6}, "alpha_pattern": {"key": 3.0}},
        {"init_lora_weights": "pissa"},
        {"modules_to_save": ["embeddings.LayerNorm"]},
    ],
    ids=str,
)
def test_a_linear_combination_is_the_weighted_sum(saved, keys):
    one, two = (
        saved(1, target_modules=["query", "key"], **keys),
        saved(2, target_modules=["query", "key"]),
    )
    if "modules_to_save" in keys:
        two = saved(2, target_modules=["query", "key"], **keys)
    merged = merge_adapter(combine(saved.base, [one, two]))
    sums = load_file(saved.base / "model.safetensors")
    for layer in ("encoder.layer.0.attention.self.query", "encoder.layer.1.attention.self.key"):
        total = sums[f"{layer}.weight"].clone()
        for folder, weight in ((one, 0.7), (two, 0.3)):
            change = change_of(folder, layer)
            total += weight * change
        assert torch.allclose(merged.bert.get_submodule(layer).weight, total, atol=1e-5)


def change_of(folder, layer):
    """s B A of one layer, with s computed from the configuration."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    b, a = (tensors[f"base_model.model.bert.{layer}.lora_{x}.weight"] for x in "BA")
    name = layer.rpartition(".")[2]
    rank = config["rank_pattern"].get(name, config["r"])
    alpha = config["alpha_pattern"].get(name, config["lora_alpha"])
    assert len(a) == rank
    return alpha / (np.sqrt(rank) if config["use_rslora"] else rank) * b @ a


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"use_dora": True}, "was trained with lora.use_dora, so it cannot be combined"),
        ({"bias": "all"}, "was trained with lora.bias, so it cannot be combined"),
        (
            {"layers_to_transform": [0]},
            "layer.1.attention.self.query: adapted by another adapter, but not by .*/1",
        ),
    ],
)
def test_adapters_that_cannot_be_combined_are_refused(saved, keys, words):
    folders = [saved(1, target_modules=["query"], **keys), saved(2, target_modules=["query"])]
    with pytest.raises(ArtifactError, match=words):
        combine(saved.base, folders)
