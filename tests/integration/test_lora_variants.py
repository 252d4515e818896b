"""What holds for every way of doing LoRA that a recipe can ask for."""

import json
import subprocess
import sys

import pytest
import torch

from lora_tune.adapter import (
    adapted_layers,
    count_parameters,
    describe_adapter,
    merge_adapter,
)
from lora_tune.counting import count_recipe
from lora_tune.lora import LoraConfig
from lora_tune.predictor import load_adapter
from lora_tune.recipe import DataConfig, ModelConfig, Recipe
from lora_tune.starts import is_untouched
from tests.conftest import ROOT
from tests.parts import LABELS, Parts
from tests.tiny import make_base, reviews

BASES = ["bert-base-cased", "gpt2", "llama"]
TARGETS = {
    "bert-base-cased": ["query", "output.dense"],
    "gpt2": ["c_attn", "c_proj"],
    "llama": ["q_proj", "down_proj"],
}
FIRST = {"bert-base-cased": "query", "gpt2": "c_attn", "llama": "q_proj"}
WHOLE = {"bert-base-cased": ["embeddings.LayerNorm"], "gpt2": ["ln_f"], "llama": ["model.norm"]}
# FIRST is the module that a pattern is tried on, layer 1 the layer.
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
# These take a part out of the base and put it back as A and B, or multiply two that cancel out.
ROUNDING = {"pissa", "olora", "orthogonal", "pissa_niter_4"}
NO_OLORA = "PEFT's OLoRA cannot begin Conv1D layers; test_what_cannot_be_is_refused"


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


def closed_form(parts):
    """Count what a variant trains from the shapes of the plain base, by hand."""
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


def test_a_fresh_adapter_answers_as_its_base(parts):
    before = parts.logits(parts.model)
    after = parts.logits(parts.attach())
    if parts.variant in ROUNDING or parts.lora.use_dora:
        assert torch.allclose(after, before, atol=1e-5)
    else:
        assert torch.equal(after, before)
    parts.settle()
    assert torch.allclose(parts.logits(parts.adapted), before, atol=1e-5)


def test_the_count_is_the_closed_form_and_that_of_the_configuration(parts, tmp_path):
    expected = closed_form(parts)
    (tmp_path / "config.json").write_bytes((parts.base.folder / "config.json").read_bytes())
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
    modules = describe_adapter(parts.adapted, parts.head)
    assert trainable == expected
    assert sum(module.parameters for module in modules) == trainable
    assert (count.trainable_parameters, count.total_parameters) == (trainable, total)
    parts.settle()
    assert count.adapter_bytes == parts.save(tmp_path / "adapter")
    assert (
        count.saved_rank == json.loads((tmp_path / "adapter/adapter_config.json").read_text())["r"]
    )
    kinds = {module.kind for module in modules}
    assert ("whole" in kinds) == bool(parts.lora.modules_to_save)
    has_biases = any(n.endswith(".bias") for n, _ in parts.model.named_parameters())
    assert ("bias" in kinds) == (parts.lora.bias != "none" and has_biases)


def test_the_scale_is_alpha_over_rank_or_over_its_root(parts):
    changes = VARIANTS[parts.variant]
    for path, layer in adapted_layers(parts.attach()):
        in_first = path.endswith(FIRST[parts.name])
        rank = 6 if in_first and "rank_pattern" in changes else 4
        alpha = 40 if in_first and ".1." in path and "alpha_pattern" in changes else 8
        scale = alpha / (rank**0.5 if "use_rslora" in changes else rank)
        assert layer.scaling["default"] == pytest.approx(scale)


def test_only_what_is_counted_moves(parts):
    parts.attach()
    before = {name: p.detach().clone() for name, p in parts.adapted.named_parameters()}
    assert is_untouched(parts.adapted, parts.start)
    parts.train_a_little()
    assert not is_untouched(parts.adapted, parts.start)
    moved = {n for n, p in parts.adapted.named_parameters() if not torch.equal(p, before[n])}
    allowed = {name for name in before if ".lora_" in name or ".modules_to_save." in name}
    if parts.lora.bias == "all":
        allowed |= {n for n in before if n.endswith(".bias") and ".original_module." not in n}
    elif parts.lora.bias == "lora_only":
        allowed |= {n for n in before if n.endswith(".base_layer.bias")}
    assert moved <= allowed
    # What a token's place in a sentence hides from the gradient: a key's bias moves no attention.
    assert {n for n in allowed - moved if not n.endswith(".bias")} == set()


def ask_layers(model, layers):
    """What each layer makes of every unit vector: its weights and bias as they count in the end.

    A small random model pays little attention, so its logits alone would hide a lost query.
    """
    with torch.no_grad():
        return {path: model.get_submodule(path)(torch.eye(width)) for path, width in layers}


def assert_alike(found, expected):
    for path, answers in expected.items():
        assert torch.allclose(found[path], answers, atol=1e-5), path


def test_trained_saved_reloaded_and_merged_answer_alike(parts, tmp_path):
    fresh = parts.logits(parts.model)
    parts.attach()
    parts.train_a_little()
    trained = parts.logits(parts.adapted)
    layers = [(path, layer.in_features) for path, layer in adapted_layers(parts.adapted)]
    expected = ask_layers(parts.adapted.get_base_model(), layers)
    assert not torch.allclose(trained, fresh, atol=1e-2), "train more: nothing to tell apart"
    parts.settle()
    assert torch.allclose(parts.logits(parts.adapted), trained, atol=1e-4)
    assert_alike(ask_layers(parts.adapted.get_base_model(), layers), expected)
    parts.save(tmp_path / "a")
    loaded = load_adapter(tmp_path / "a")
    assert_alike(ask_layers(loaded.model.get_base_model(), layers), expected)
    assert torch.allclose(parts.logits(loaded.model), trained, atol=1e-4)
    merged = merge_adapter(loaded.model)
    assert not [name for name, _ in merged.named_parameters() if "lora" in name]
    assert torch.allclose(parts.logits(merged), trained, atol=1e-4)
    assert_alike(ask_layers(merged, layers), expected)
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert config["init_lora_weights"] is True  # nobody who loads it begins anew


PLAIN = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification as Auto, BitsAndBytesConfig
for base, adapter, quantization, pad, inputs, out in json.load(sys.stdin):
    bits = quantization and BitsAndBytesConfig(**quantization)
    model = Auto.from_pretrained(base, num_labels=3, quantization_config=bits)
    model.config.pad_token_id = pad
    for module in model.modules():  # some processors would round 4 bits once more, to bf16
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
    """Each variant on one base, in turn, and those that hold most on every base."""
    for number, variant in enumerate(VARIANTS):
        some = BASES if variant.endswith("with all the rest") else [BASES[number % len(BASES)]]
        for base in some:
            base = "llama" if (base, variant) == ("gpt2", "olora") else base
            yield base, make_lora(variant, base), None
    yield "llama", LoraConfig(rank=4, alpha=8, init_lora_weights="loftq"), "4bit"
    # Its rates matter to an optimizer alone, which is in test_training_laws.py.
    yield "gpt2", LoraConfig(rank=4, alpha=8, lora_plus_ratio=16.0), None


def test_a_fresh_process_with_peft_alone_answers_alike(folders, tmp_path):
    """One process for all, since it takes seconds to begin."""
    asked, expected = [], {}
    for number, (base, lora, bits) in enumerate(plain_cases()):
        parts = Parts(folders[base], lora, quantization=bits)
        parts.attach()
        parts.train_a_little()
        trained = parts.logits(parts.adapted)
        assert not torch.allclose(trained, parts.logits(parts.load_full()), atol=1e-2)
        parts.settle()
        place = tmp_path / str(number)
        parts.save(place)
        texts = reviews()[0][:8]
        inputs = parts.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        torch.save(dict(inputs), place / "inputs.pt")
        files = (place / "inputs.pt", place / "logits.pt")
        pad = parts.tokenizer.pad_token_id
        asked.append([str(folders[base]), str(place), bits and FOUR_BITS, pad, *map(str, files)])
        expected[place / "logits.pt"] = (base, lora, trained)
    command = [sys.executable, "-W", "ignore", "-c", PLAIN]
    done = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    for path, (base, lora, trained) in expected.items():
        assert torch.allclose(torch.load(path), trained, atol=1e-4), (base, lora)
