"""What holds for every variant of LoRA that a recipe can choose."""

import json
import subprocess
import sys

import pytest
import torch

from lora_tune.artifacts.saved_adapter import load_adapter
from lora_tune.commands.params import count_recipe
from lora_tune.config.data import DataConfig
from lora_tune.config.lora import LoraConfig
from lora_tune.config.model import ModelConfig
from lora_tune.config.recipe import Recipe
from lora_tune.lora.adapter import adapted_layers, count_parameters, describe_adapter, merge_adapter
from lora_tune.lora.initialization import is_unchanged
from tests.conftest import ROOT
from tests.parts import LABELS, Parts
from tests.tiny import make_base

BASES = ["bert-base-cased", "gpt2", "llama"]
TARGETS = {
    "bert-base-cased": ["query", "output.dense"],
    "gpt2": ["c_attn", "c_proj"],
    "llama": ["q_proj", "down_proj"],
}
FIRST = {"bert-base-cased": "query", "gpt2": "c_attn", "llama": "q_proj"}
WHOLE = {"bert-base-cased": ["embeddings.LayerNorm"], "gpt2": ["ln_f"], "llama": ["model.norm"]}
# FIRST stands for the module in a pattern, WHOLE for the modules trained in full.
VARIANTS = {
    "plain": {},
    "use_rslora": {"use_rslora": True},
    "use_dora": {"use_dora": True},
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "pissa": {"init_lora_weights": "pissa"},
    "pissa_niter_4": {"init_lora_weights": "pissa_niter_4"},
    "olora": {"init_lora_weights": "olora"},
    "eva": {"init_lora_weights": "eva"},
    "rank_pattern": {"rank_pattern": {"FIRST": 6}},
    "alpha_pattern": {"alpha_pattern": {r".*\.1\..*FIRST": 40.0}},
    "layers_to_transform": {"layers_to_transform": [1]},
    "exclude_modules": {"exclude_modules": r".*\.0\..*FIRST"},
    "bias all": {"bias": "all"},
    "bias lora_only": {"bias": "lora_only"},
    "modules_to_save": {"modules_to_save": "WHOLE"},
    "pissa with all the rest": {
        "init_lora_weights": "pissa",
        "use_rslora": True,
        "use_dora": True,
        "rank_pattern": {"FIRST": 6},
        "alpha_pattern": {r".*\.1\..*FIRST": 40.0},
        "bias": "all",
        "modules_to_save": "WHOLE",
    },
    "eva with all the rest": {
        "init_lora_weights": "eva",
        "use_rslora": True,
        "use_dora": True,
        "rank_pattern": {"FIRST": 6},
        "alpha_pattern": {r".*\.1\..*FIRST": 40.0},
        "exclude_modules": r".*\.0\..*FIRST",
        "bias": "lora_only",
        "modules_to_save": "WHOLE",
    },
}
# These subtract A and B from the base weights, or multiply two factors whose product is zero.
ROUNDING = {"pissa", "olora", "orthogonal", "pissa_niter_4"}
NO_OLORA = "PEFT's OLoRA cannot initialize Conv1D layers; see test_target_modules.py"


def make_lora(variant, base):
    def fill(value):
        if isinstance(value, dict):
            return {key.replace("FIRST", FIRST[base]): v for key, v in value.items()}
        if isinstance(value, str):
            return WHOLE[base] if value == "WHOLE" else value.replace("FIRST", FIRST[base])
        return value

    keys = {key: fill(value) for key, value in VARIANTS[variant].items()}
    return LoraConfig(rank=4, alpha=8, target_modules=TARGETS[base], dropout=0.0, **keys)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("variants")
    return {name: make_base(root / name, name) for name in BASES}


@pytest.fixture(params=[(base, variant) for base in BASES for variant in VARIANTS], ids=str)
def parts(request, folders):
    base, variant = request.param
    if base == "gpt2" and variant == "olora":
        pytest.skip(NO_OLORA)
    made = Parts(folders[base], make_lora(variant, base))
    made.name, made.variant = base, variant
    return made


def count_by_formula(parts):
    """Count what a variant trains from the shapes of the plain base model."""
    lora, changes = parts.lora, VARIANTS[parts.variant]
    modules = dict(parts.model.named_modules())
    first, whole = FIRST[parts.name], WHOLE[parts.name]
    count = sum(modules[name].weight.numel() for name in parts.head)
    biases = {n for n, _ in parts.model.named_parameters() if n.endswith(".bias")}
    count += sum(
        p.numel()
        for n, p in parts.model.named_parameters()
        if n in biases and (n.rpartition(".")[0] in parts.head)
    )
    biases -= {f"{name}.bias" for name in parts.head}
    adapted_biases = set()
    for path, module in modules.items():
        if not any(path.endswith(f".{name}") for name in TARGETS[parts.name]):
            continue
        in_first = path.endswith(first)
        if "layers_to_transform" in changes and ".1." not in path:
            continue
        if "exclude_modules" in changes and in_first and ".0." in path:
            continue
        rows, columns = module.weight.shape
        count += (6 if in_first and "rank_pattern" in changes else 4) * (rows + columns)
        if lora.use_dora:  # a magnitude for each output
            count += columns if parts.name == "gpt2" else rows
        adapted_biases.add(f"{path}.bias")
    if "modules_to_save" in changes:
        for path, module in modules.items():
            if any(path.endswith(name) for name in whole):
                count += sum(p.numel() for p in module.parameters())
                biases -= {f"{path}.bias"}
    wanted = {"none": set(), "lora_only": biases & adapted_biases, "all": biases}[lora.bias]
    return count + sum(p.numel() for n, p in parts.model.named_parameters() if n in wanted)


def test_an_untrained_adapter_changes_no_logit(parts):
    before = parts.logits(parts.model)
    after = parts.logits(parts.attach())
    if parts.variant in ROUNDING or parts.lora.use_dora:
        assert torch.allclose(after, before, atol=1e-5)
    else:
        assert torch.equal(after, before)
    parts.restore()
    assert torch.allclose(parts.logits(parts.adapted), before, atol=1e-5)


def test_the_count_follows_the_formula_and_needs_no_weights(parts, tmp_path):
    expected = count_by_formula(parts)
    (tmp_path / "config.json").write_bytes((parts.checkpoint.folder / "config.json").read_bytes())
    count = count_recipe(
        Recipe(
            model=ModelConfig(name=str(tmp_path)),
            data=DataConfig(labels=LABELS),
            lora=parts.lora,
            name="x",
        )
    )
    parts.attach()
    trainable, total = count_parameters(parts.adapted)
    modules = describe_adapter(parts.adapted, parts.head).modules
    assert trainable == expected
    assert sum(module.parameters for module in modules) == trainable
    assert (count.trainable_parameters, count.total_parameters) == (trainable, total)
    parts.restore()
    assert count.adapter_bytes == parts.save(tmp_path / "adapter")
    assert (
        count.saved_rank == json.loads((tmp_path / "adapter/adapter_config.json").read_text())["r"]
    )
    kinds = {module.kind for module in modules}
    assert ("whole" in kinds) == bool(parts.lora.modules_to_save)
    has_biases = any(n.endswith(".bias") for n, _ in parts.model.named_parameters())
    assert ("bias" in kinds) == (parts.lora.bias != "none" and has_biases)


def test_the_scale_is_alpha_over_rank_or_its_square_root(parts):
    changes = VARIANTS[parts.variant]
    for path, layer in adapted_layers(parts.attach()):
        in_first = path.endswith(FIRST[parts.name])
        rank = 6 if in_first and "rank_pattern" in changes else 4
        alpha = 40 if in_first and ".1." in path and "alpha_pattern" in changes else 8
        scale = alpha / (rank**0.5 if "use_rslora" in changes else rank)
        assert layer.scaling["default"] == pytest.approx(scale)


def test_training_changes_only_what_is_counted(parts):
    parts.attach()
    before = {name: p.detach().clone() for name, p in parts.adapted.named_parameters()}
    assert is_unchanged(parts.adapted, parts.initial)
    parts.train_a_little()
    assert not is_unchanged(parts.adapted, parts.initial)
    changed = {n for n, p in parts.adapted.named_parameters() if not torch.equal(p, before[n])}
    allowed = {name for name in before if ".lora_" in name or ".modules_to_save." in name}
    if parts.lora.bias == "all":
        allowed |= {n for n in before if n.endswith(".bias") and ".original_module." not in n}
    elif parts.lora.bias == "lora_only":
        allowed |= {n for n in before if n.endswith(".base_layer.bias")}
    assert changed <= allowed
    # The bias of the keys changes no attention, so it gets no gradient.
    assert {n for n in allowed - changed if not n.endswith(".bias")} == set()


def layer_outputs(model, layers):
    """Each layer's output for every unit vector: its weights and bias with the adapter.

    In a small random model, attention changes the logits too little to notice a lost query.
    """
    with torch.no_grad():
        return {path: model.get_submodule(path)(torch.eye(width)) for path, width in layers}


def assert_close(found, expected):
    for path, outputs in expected.items():
        assert torch.allclose(found[path], outputs, atol=1e-5), path


def test_saved_loaded_and_merged_models_give_the_same_logits(parts, tmp_path):
    fresh = parts.logits(parts.model)
    parts.attach()
    parts.train_a_little()
    trained = parts.logits(parts.adapted)
    layers = [(path, layer.in_features) for path, layer in adapted_layers(parts.adapted)]
    expected = layer_outputs(parts.adapted.get_base_model(), layers)
    assert not torch.allclose(trained, fresh, atol=1e-2), "train more: the logits hardly changed"
    parts.restore()
    assert torch.allclose(parts.logits(parts.adapted), trained, atol=1e-4)
    assert_close(layer_outputs(parts.adapted.get_base_model(), layers), expected)
    parts.save(tmp_path / "a")
    loaded = load_adapter(tmp_path / "a")
    assert_close(layer_outputs(loaded.model.get_base_model(), layers), expected)
    assert torch.allclose(parts.logits(loaded.model), trained, atol=1e-4)
    merged = merge_adapter(loaded.model)
    assert not [name for name, _ in merged.named_parameters() if "lora" in name]
    assert torch.allclose(parts.logits(merged), trained, atol=1e-4)
    assert_close(layer_outputs(merged, layers), expected)
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert config["init_lora_weights"] is True  # loading does not initialize again


PLAIN = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification as Auto, BitsAndBytesConfig
for base, adapter, quantization, pad, inputs, out in json.load(sys.stdin):
    bits = quantization and BitsAndBytesConfig(**quantization)
    model = Auto.from_pretrained(base, num_labels=3, quantization_config=bits)
    model.config.pad_token_id = pad
    for module in model.modules():  # some processors would round 4-bit weights once more, to bf16
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    model = PeftModel.from_pretrained(model, adapter).eval()
    with torch.no_grad():
        torch.save(model(**torch.load(inputs)).logits, out)
assert not any(name.startswith("lora_tune") for name in sys.modules)
"""
FOUR_BITS = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "llm_int8_skip_modules": ["classifier", "score"],
}


def plain_cases():
    """Each variant on one of the base models in turn, and the combined ones on all."""
    for number, variant in enumerate(VARIANTS):
        some = BASES if variant.endswith("with all the rest") else [BASES[number % len(BASES)]]
        for base in some:
            base = "llama" if (base, variant) == ("gpt2", "olora") else base
            yield base, make_lora(variant, base), None
    yield "llama", LoraConfig(rank=4, alpha=8, init_lora_weights="loftq"), "4bit"
    # It changes only the optimizer; see test_initialization.py.
    yield "gpt2", LoraConfig(rank=4, alpha=8, lora_plus_ratio=16.0), None


def test_a_fresh_process_with_peft_alone_gives_the_same_logits(folders, tmp_path):
    """One process for all, since it takes seconds to start."""
    cases, expected = [], {}
    for number, (base, lora, bits) in enumerate(plain_cases()):
        parts = Parts(folders[base], lora, quantization=bits)
        parts.attach()
        parts.train_a_little()
        trained = parts.logits(parts.adapted)
        assert not torch.allclose(trained, parts.logits(parts.load_full_precision()), atol=1e-2)
        parts.restore()
        place = tmp_path / str(number)
        parts.save(place)
        torch.save(dict(parts.batch()), place / "inputs.pt")
        files = (place / "inputs.pt", place / "logits.pt")
        pad = parts.tokenizer.pad_token_id
        cases.append([str(folders[base]), str(place), bits and FOUR_BITS, pad, *map(str, files)])
        expected[place / "logits.pt"] = (base, lora, trained)
    command = [sys.executable, "-W", "ignore", "-c", PLAIN]
    done = subprocess.run(
        command, input=json.dumps(cases), capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    for path, (base, lora, trained) in expected.items():
        assert torch.allclose(torch.load(path), trained, atol=1e-4), (base, lora)
