"""How an adapter begins, how fast B learns, and whole runs of what changes the base."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lora_tune.adapter import adapted_layers, load_adapter_weights, merge_adapter
from lora_tune.combining import combine_adapters
from lora_tune.errors import ArtifactError, RecipeError
from lora_tune.lora import LoraConfig
from lora_tune.merging import merge_adapters
from lora_tune.precision import dequantize_layer, restore_weights
from tests.parts import Parts
from tests.tiny import make_base

WIDE = {
    "bert-base-cased": {"hidden_size": 64, "intermediate_size": 128},
    "gpt2": {"n_embd": 64},
}
TARGETS = {"bert-base-cased": ["query", "output.dense"], "gpt2": ["c_attn", "c_proj"]}


@pytest.fixture(scope="module", params=WIDE)
def wide(request, tmp_path_factory):
    """A base wide enough for 4 bits to round it in blocks."""
    folder = tmp_path_factory.mktemp("wide") / request.param
    return request.param, make_base(folder, request.param, **WIDE[request.param])


def lora_for(name, **keys):
    return LoraConfig(rank=4, alpha=8, target_modules=TARGETS[name], dropout=0.0, **keys)


@pytest.mark.parametrize("keys", [{}, {"use_rslora": True}, {"use_dora": True}], ids=str)
def test_loftq_makes_up_for_rounding_as_well_as_its_rank_can(wide, keys):
    """What is left of the rounding is its singular values beyond the rank (Eckart and Young)."""
    pytest.importorskip("bitsandbytes")
    name, folder = wide
    parts = Parts(folder, lora_for(name, init_lora_weights="loftq", **keys), quantization="4bit")
    rounded = parts.logits(parts.model)
    parts.attach()
    full = parts.load_full()
    layers = list(adapted_layers(parts.adapted))
    assert len(layers) >= 4
    for path, layer in layers:
        weight = full.get_submodule(path).weight
        weight = weight.T if name == "gpt2" else weight
        base = dequantize_layer(layer.get_base_layer())
        begun = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        begun = begun * layer.scaling["default"]
        beyond = torch.linalg.svdvals(weight - base)[4:]
        left = torch.linalg.norm(weight - base - begun)
        assert torch.isclose(left, beyond.norm(), rtol=1e-3)
        assert left < 0.95 * torch.linalg.norm(weight - base)
        if "use_dora" in keys:
            lengths = torch.linalg.norm(base + begun, dim=1)
            assert torch.allclose(layer.lora_magnitude_vector["default"].weight, lengths)
    # The head is the same, so only the adapter, or nothing, stands between these and full weights.
    with torch.no_grad():
        for part in parts.head:
            full.get_submodule(part).load_state_dict(
                parts.adapted.get_submodule(f"base_model.model.{part}.original_module").state_dict()
            )
    exact = parts.logits(full.eval())
    begun = parts.logits(parts.adapted)
    assert (begun - exact).norm() < (rounded - exact).norm()


@pytest.mark.parametrize(
    ("bits", "keys"),
    [
        ("4bit", {"use_dora": True}),
        ("4bit", {"use_rslora": True, "rank_pattern": {".*[yn]": 6}}),
        ("4bit", {"init_lora_weights": "eva"}),
        ("4bit", {"init_lora_weights": "loftq", "use_dora": True}),
        ("4bit", {"bias": "all"}),
        ("8bit", {"init_lora_weights": "eva", "use_rslora": True}),
        ("8bit", {"bias": "lora_only"}),
    ],
    ids=str,
)
def test_on_a_quantised_base_saved_reloaded_and_merged_answer_alike(wide, tmp_path, bits, keys):
    pytest.importorskip("bitsandbytes")
    name, folder = wide
    if "rank_pattern" in keys:
        keys = keys | {"rank_pattern": {TARGETS[name][0]: 6}}
    parts = Parts(folder, lora_for(name, **keys), quantization=bits)
    parts.attach()
    parts.train_a_little()
    parts.settle()
    trained = parts.logits(parts.adapted)
    parts.save(tmp_path / "a")
    again = Parts(folder, parts.lora, quantization=bits)
    loaded = load_adapter_weights(again.model, tmp_path / "a")
    assert torch.allclose(parts.logits(loaded), trained, atol=1e-4)
    whole = parts.load_full()
    restore_weights(whole, loaded.unload())
    merged = merge_adapter(load_adapter_weights(whole, tmp_path / "a")).eval()
    # 8-bit also rounds what goes into each layer, which no merged model does.
    tolerance = {"4bit": 1e-4, "8bit": 0.05}[bits]
    assert torch.allclose(parts.logits(merged), trained, atol=tolerance)


def test_eva_begins_with_the_directions_of_the_rows(wide):
    """Beside them stands a plain SVD of all the inputs of a layer, padding left out."""
    name, folder = wide
    parts = Parts(folder, lora_for(name, init_lora_weights="eva"))
    seen = []
    path, _ = next(iter(adapted_layers(parts.attach())))
    layer = parts.model.get_submodule(path)
    handle = layer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    rows = parts.rows()
    for number in range(len(rows)):  # one by one: nothing is padded
        with torch.no_grad():
            parts.model(**{k: torch.tensor([v]) for k, v in rows[number].items()})
    handle.remove()
    states = torch.cat([state[0] for state in seen])
    _, _, directions = torch.linalg.svd(states - states.mean(0), full_matrices=False)
    begun = layer.lora_A["default"].weight
    assert torch.allclose(begun @ begun.T, torch.eye(4), atol=1e-4)
    shared = torch.linalg.svdvals(begun @ directions[:4].T)  # cosines between the two subspaces
    assert shared.min() > 0.9


def test_eva_begins_in_every_linear_layer(wide):
    """A pooler is given the first token's states, a view that PEFT cannot hash."""
    parts = Parts(wide[1], LoraConfig(rank=4, init_lora_weights="eva"))
    for _, layer in adapted_layers(parts.attach()):
        begun = layer.lora_A["default"].weight
        assert torch.allclose(begun @ begun.T, torch.eye(4), atol=1e-4)


def test_eva_reads_training_rows_alone(run_tiny, rows, tmp_path):
    """Other test rows change not one bit of the adapter; other training rows do."""
    lora = {"init_lora_weights": "eva", "rank": 4}

    def weights(**data):
        folder = run_tiny(lora=lora, data=data) / "adapter" / "adapter_model.safetensors"
        return folder.read_bytes()

    plain = weights()
    lines = (rows / "test.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "other.jsonl").write_text("".join(lines[:10] + lines[-10:]))
    assert weights(test={"file": str(tmp_path / "other.jsonl")}) == plain
    with pytest.raises(RecipeError, match=r"eva needs 2 training rows for each rank, 32 in all, f"):
        run_tiny(lora=lora | {"rank": 16}, data={"train_rows": 20})


def test_lora_plus_moves_b_faster_by_its_ratio_and_nothing_else(run_tiny):
    """One step of plain gradient descent: B begins at zero, so its size is its step."""

    def train(**lora):
        folder = run_tiny(
            lora={"dropout": 0.0} | lora,
            training={
                "optim": "sgd",
                "max_steps": 2,  # the first has rate 0
                "warmup_steps": 1,
                "max_grad_norm": 0,
                "weight_decay": 0.0,
                "eval_strategy": "no",
                "save_strategy": "no",
                "load_best_model_at_end": False,
            },
        )
        return load_file(folder / "adapter" / "adapter_model.safetensors")

    plain, fast = train(), train(lora_plus_ratio=16)
    for name, tensor in plain.items():
        times = 16 if ".lora_B." in name else 1
        assert torch.allclose(fast[name], times * tensor, rtol=1e-4, atol=1e-9), name
    assert any(".lora_B." in name and tensor.any() for name, tensor in plain.items())


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_a_whole_run_of_what_changes_the_base(run_tiny, tmp_path, start):
    """Best checkpoint, reload gate in a fresh process, and merge."""
    folder = run_tiny(
        reload=True,
        lora={"init_lora_weights": start, "use_rslora": True, "bias": "all", "rank": 4},
        training={"learning_rate": 0.005, "num_train_epochs": 3},
    )
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["init_lora_weights"]) == (8, True)
    comparison = json.loads((folder / "comparison.json").read_text())
    assert comparison["reload"]["largest_logit_difference"] <= 1e-5
    assert {module["kind"] for module in comparison["modules"]} == {"adapter", "bias", "head"}
    assert f"<code>&quot;{start}&quot;</code>" in (folder / "adapter" / "README.md").read_text()
    parities = []
    merge_adapters([folder / "adapter"], output=tmp_path / "merged", show=parities.append)
    assert parities[0].largest_logit_difference < 1e-4


@pytest.mark.parametrize("start", ["default", "orthogonal", "pissa"])
def test_an_idle_training_says_so_however_it_began(run_tiny, start):
    lora = {"init_lora_weights": start, "rank": 4}
    idle = run_tiny(lora=lora, training={"max_steps": 1, "warmup_steps": 1})
    caveats = json.loads((idle / "comparison.json").read_text())["caveats"]
    assert caveats[-1].startswith("Training changed nothing")
    trained = json.loads((run_tiny(lora=lora) / "comparison.json").read_text())["caveats"]
    assert not any("changed nothing" in caveat for caveat in trained)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Save a trained adapter of one base; returns its folder."""
    root = tmp_path_factory.mktemp("several")
    base = make_base(root / "base", "bert-base-cased")

    def save(seed, **keys):
        parts = Parts(base, LoraConfig(rank=4, alpha=8, dropout=0.0, **keys), seed=seed)
        parts.attach()
        parts.train_a_little()
        parts.settle()
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
def test_several_adapters_add_up(saved, keys):
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
    """s B A of one layer, s worked out by hand from the configuration."""
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
        ({"use_dora": True}, "has lora.use_dora, so it cannot be combined"),
        ({"bias": "all"}, "has lora.bias, so it cannot be combined"),
        (
            {"layers_to_transform": [0]},
            "layer.1.attention.self.query: not adapted by .*they cannot",
        ),
    ],
)
def test_adapters_that_do_not_add_up_are_refused(saved, keys, words):
    folders = [saved(1, target_modules=["query"], **keys), saved(2, target_modules=["query"])]
    with pytest.raises(ArtifactError, match=words):
        combine(saved.base, folders)
