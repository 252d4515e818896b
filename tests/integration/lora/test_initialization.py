"""Initializations of LoRA, LoRA+, and whole runs of what changes the base weights."""

import json

import pytest
import torch
from safetensors.torch import load_file

from lora_tune.commands.merge import merge_adapters
from lora_tune.config.lora import LoraConfig
from lora_tune.errors import RecipeError
from lora_tune.lora.adapter import adapted_layers, load_adapter_weights, merge_adapter
from lora_tune.models.quantization import dequantize_layer, restore_weights
from tests.parts import Parts
from tests.tiny import make_base

WIDE = {
    "bert-base-cased": {"hidden_size": 64, "intermediate_size": 128},
    "gpt2": {"n_embd": 64},
}
TARGETS = {"bert-base-cased": ["query", "output.dense"], "gpt2": ["c_attn", "c_proj"]}


@pytest.fixture(scope="module", params=WIDE)
def wide(request, tmp_path_factory):
    """A base model wide enough to be quantized to 4 bits in blocks."""
    folder = tmp_path_factory.mktemp("wide") / request.param
    return request.param, make_base(folder, request.param, **WIDE[request.param])


def lora_for(name, **keys):
    return LoraConfig(rank=4, alpha=8, target_modules=TARGETS[name], dropout=0.0, **keys)


@pytest.mark.parametrize("keys", [{}, {"use_rslora": True}, {"use_dora": True}], ids=str)
def test_loftq_is_the_best_correction_of_its_rank(wide, keys):
    """What remains of the rounding error is its singular values beyond the rank (Eckart-Young)."""
    pytest.importorskip("bitsandbytes")
    name, folder = wide
    parts = Parts(folder, lora_for(name, init_lora_weights="loftq", **keys), quantization="4bit")
    rounded = parts.logits(parts.model)
    parts.attach()
    full = parts.load_full_precision()
    layers = list(adapted_layers(parts.adapted))
    assert len(layers) >= 4
    for path, layer in layers:
        weight = full.get_submodule(path).weight
        weight = weight.T if name == "gpt2" else weight
        base = dequantize_layer(layer.get_base_layer())
        change = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        change = change * layer.scaling["default"]
        beyond = torch.linalg.svdvals(weight - base)[4:]
        error = torch.linalg.norm(weight - base - change)
        assert torch.isclose(error, beyond.norm(), rtol=1e-3)
        assert error < 0.95 * torch.linalg.norm(weight - base)
        if "use_dora" in keys:
            lengths = torch.linalg.norm(base + change, dim=1)
            assert torch.allclose(layer.lora_magnitude_vector["default"].weight, lengths)
    # With the same head, only the adapter corrects the difference to full precision.
    with torch.no_grad():
        for part in parts.head:
            full.get_submodule(part).load_state_dict(
                parts.adapted.get_submodule(f"base_model.model.{part}.original_module").state_dict()
            )
    exact = parts.logits(full.eval())
    corrected = parts.logits(parts.adapted)
    assert (corrected - exact).norm() < (rounded - exact).norm()


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
def test_a_quantized_base_gives_the_same_logits_saved_and_merged(wide, tmp_path, bits, keys):
    pytest.importorskip("bitsandbytes")
    name, folder = wide
    if "rank_pattern" in keys:
        keys = keys | {"rank_pattern": {TARGETS[name][0]: 6}}
    parts = Parts(folder, lora_for(name, **keys), quantization=bits)
    parts.attach()
    parts.train_a_little()
    parts.restore()
    trained = parts.logits(parts.adapted)
    parts.save(tmp_path / "a")
    again = Parts(folder, parts.lora, quantization=bits)
    loaded = load_adapter_weights(again.model, tmp_path / "a")
    assert torch.allclose(parts.logits(loaded), trained, atol=1e-4)
    whole = parts.load_full_precision()
    restore_weights(whole, loaded.unload())
    merged = merge_adapter(load_adapter_weights(whole, tmp_path / "a")).eval()
    # 8-bit layers also round their inputs, which a merged model does not.
    tolerance = {"4bit": 1e-4, "8bit": 0.05}[bits]
    assert torch.allclose(parts.logits(merged), trained, atol=tolerance)


def test_eva_starts_with_the_principal_directions_of_the_inputs(wide):
    """They are compared with a plain SVD of all inputs of a layer, without padding."""
    name, folder = wide
    parts = Parts(folder, lora_for(name, init_lora_weights="eva"))
    seen = []
    path, _ = next(iter(adapted_layers(parts.attach())))
    layer = parts.model.get_submodule(path)
    handle = layer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    rows = parts.rows()
    for number in range(len(rows)):  # one by one, so that nothing is padded
        with torch.no_grad():
            parts.model(**{k: torch.tensor([v]) for k, v in rows[number].items()})
    handle.remove()
    states = torch.cat([state[0] for state in seen])
    _, _, directions = torch.linalg.svd(states - states.mean(0), full_matrices=False)
    factor = layer.lora_A["default"].weight
    assert torch.allclose(factor @ factor.T, torch.eye(4), atol=1e-4)
    shared = torch.linalg.svdvals(factor @ directions[:4].T)  # cosines between the two subspaces
    assert shared.min() > 0.9


def test_eva_initializes_every_linear_layer(wide):
    """A pooler is given the first token's states, a view that PEFT cannot hash."""
    parts = Parts(wide[1], LoraConfig(rank=4, init_lora_weights="eva"))
    for _, layer in adapted_layers(parts.attach()):
        factor = layer.lora_A["default"].weight
        assert torch.allclose(factor @ factor.T, torch.eye(4), atol=1e-4)


def test_eva_uses_training_rows_only(run_tiny, rows, tmp_path):
    """Other test rows do not change a bit of the adapter; too few training rows are refused."""
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


def test_lora_plus_scales_the_learning_rate_of_b_only(run_tiny):
    """One step of plain gradient descent: B starts at zero, so its value is its step."""

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
def test_a_run_of_what_changes_the_base_weights(run_tiny, tmp_path, start):
    """Best checkpoint, reload check in a fresh process, and merge."""
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
def test_a_training_without_effect_is_reported_for_every_initialization(run_tiny, start):
    lora = {"init_lora_weights": start, "rank": 4}
    idle = run_tiny(lora=lora, training={"max_steps": 1, "warmup_steps": 1})
    warnings = json.loads((idle / "comparison.json").read_text())["warnings"]
    assert warnings[-1].startswith("Training did not change the adapter")
    trained = json.loads((run_tiny(lora=lora) / "comparison.json").read_text())["warnings"]
    assert not any("did not change the adapter" in warning for warning in trained)
