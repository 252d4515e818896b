"""Base models in 4 or 8 bits or a 16-bit dtype, for every architecture and task."""

import json
import re
from dataclasses import replace

import pytest
import torch
import transformers

from lora_tune.artifacts.manifest import read_manifest, render_manifest
from lora_tune.artifacts.reload_check import ReloadCheck, record_outputs
from lora_tune.artifacts.saved_adapter import find_adapter, load_adapter
from lora_tune.artifacts.saved_model import resolve_base
from lora_tune.commands.merge import MergeOptions, merge_adapters
from lora_tune.config.data import DataConfig
from lora_tune.config.lora import LoraConfig
from lora_tune.config.model import ModelConfig
from lora_tune.lora.adapter import load_adapter_weights, merge_adapter
from lora_tune.models.checkpoint import resolve_checkpoint
from lora_tune.models.loading import load_model
from lora_tune.models.quantization import is_quantized, measure_weight_memory, restore_weights
from lora_tune.models.tokenizer import load_tokenizer
from lora_tune.run import run_recipe
from lora_tune.tasks import make_task
from lora_tune.tasks.recipes import load_recipe
from tests.integration.tasks.test_tasks import CASES
from tests.parts import LABELS, Parts
from tests.plain_peft import ask_plain_peft
from tests.tiny import make_base, reviews

pytest.importorskip("bitsandbytes", reason="quantization needs bitsandbytes")

WIDE = {
    "distilbert-base-uncased": {"dim": 64, "hidden_dim": 128},
    "bert-base-cased": {"hidden_size": 64, "intermediate_size": 128},
    "roberta-base": {"hidden_size": 64, "intermediate_size": 128},
    "gpt2": {"n_embd": 64},
    "llama": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "auto_class": "AutoModelForCausalLM",  # an output layer with weights of its own
    },
}
HEADS = [
    *((name, "sequence_classification") for name in WIDE),
    *((name, "token_classification") for name in WIDE if name != "llama"),
    *((name, "causal_lm") for name in ("gpt2", "llama")),
]
PRECISIONS = {
    "bfloat16": {"dtype": "bfloat16"},
    "float16": {"dtype": "float16"},
    "4bit bfloat16": {"quantization": "4bit", "dtype": "bfloat16"},
    "4bit once": {"quantization": "4bit", "double_quantization": False},
    "8bit bfloat16": {"quantization": "8bit", "dtype": "bfloat16"},
}
# Tolerance of a logit: a merged model rounds weights only, the model with an adapter also states.
ROUNDING = {"bfloat16": 0.05, "float16": 0.01, "4bit bfloat16": 0.05, "4bit once": 1e-4}
ROUNDING["8bit bfloat16"] = 0.1


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Base models wide enough to be quantized to 4 bits in blocks."""
    root = tmp_path_factory.mktemp("wide")
    return {name: make_base(root / name, name, **sizes) for name, sizes in WIDE.items()}


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
@pytest.mark.parametrize(("name", "task"), HEADS)
def test_heads_and_embeddings_are_never_quantized(wide, name, task, bits):
    config = ModelConfig(name=str(wide[name]), quantization=bits, dtype="bfloat16")
    checkpoint, task = resolve_checkpoint(config), make_task(task)
    tokenizer = load_tokenizer(checkpoint, config, data=DataConfig(max_length=64))
    model, head, _ = load_model(checkpoint, config, task=task, labels=LABELS, tokenizer=tokenizer)
    quantized = {path for path, p in model.named_parameters() if is_quantized(p)}
    linear = (torch.nn.Linear, transformers.pytorch_utils.Conv1D)
    with torch.device("meta"):
        plain = getattr(transformers, task.auto_class).from_config(model.config)
    trunk = {f"{path}.weight" for path, m in plain.named_modules() if isinstance(m, linear)}
    unquantized = {path for path in trunk if path.split(".")[0] != model.base_model_prefix}
    assert unquantized  # the task's head, or a language model's output layer
    unquantized |= {path for path in trunk if ".pooler." in path}
    assert quantized == trunk - unquantized
    compute_dtypes = {m.compute_dtype for m in model.modules() if hasattr(m, "compute_dtype")}
    assert compute_dtypes == ({torch.bfloat16} if bits == "4bit" else set())
    for path, parameter in model.named_parameters():
        if path not in quantized:
            is_head = path.split(".")[0] in head
            assert parameter.dtype == (torch.float32 if is_head else torch.bfloat16), path


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["bert-base-cased", "gpt2"])
def test_adapters_train_load_and_merge_in_every_precision(wide, tmp_path, name, precision):
    """Untrained, it changes nothing; it trains in float32; loaded and merged, it is the same."""
    lora = LoraConfig(rank=4, alpha=8, dropout=0.0)
    parts = Parts(wide[name], lora, **PRECISIONS[precision])
    before = parts.logits(parts.model)
    assert torch.equal(parts.logits(parts.attach()), before)
    parts.train_a_little()
    trained = parts.logits(parts.adapted)
    assert trained.dtype == torch.float32
    assert not torch.allclose(trained, before, atol=0.1)
    assert {p.dtype for p in parts.adapted.parameters() if p.requires_grad} == {torch.float32}
    parts.save(tmp_path / "a")
    _, loading = resolve_base(find_adapter(tmp_path / "a"))
    # The adapter records how the base model was loaded; dropout applies in training only.
    assert loading == replace(parts.config, dropout=None, pooling="model")
    again = Parts(wide[name], lora, seed=3, **PRECISIONS[precision])
    loaded = load_adapter_weights(again.model, tmp_path / "a")
    assert torch.allclose(parts.logits(loaded), trained, atol=1e-6)
    whole = parts.load_full_precision()
    base = loaded.unload()
    restore_weights(whole, base)
    computed_with = base.get_input_embeddings().weight.float()
    assert torch.equal(whole.get_input_embeddings().weight, computed_with)
    merged = merge_adapter(load_adapter_weights(whole, tmp_path / "a")).eval()
    assert {p.dtype for p in merged.parameters()} == {torch.float32}
    assert torch.allclose(parts.logits(merged), trained, atol=ROUNDING[precision])


def test_an_untrained_pooler_is_trained_on_a_quantized_base(tmp_path):
    sizes = WIDE["bert-base-cased"]
    base = make_base(
        tmp_path / "base", "bert-base-cased", auto_class="AutoModelForMaskedLM", **sizes
    )
    precision = {"quantization": "4bit", "dtype": "bfloat16"}
    parts = Parts(base, **precision)
    assert "bert.pooler.dense" in parts.head
    parts.attach()
    parts.train_a_little()
    parts.save(tmp_path / "a")
    again = Parts(base, seed=3, **precision)
    loaded = load_adapter_weights(again.model, tmp_path / "a")
    assert torch.allclose(parts.logits(loaded), parts.logits(parts.adapted), atol=1e-6)


@pytest.mark.parametrize("double", [True, False])
def test_the_memory_of_4_bit_weights_follows_the_formula(wide, double):
    """Half a byte per weight, and per block of 64 a scale of 4 bytes, or of 1 if quantized too."""
    parts = Parts(wide["gpt2"], quantization="4bit", double_quantization=double)
    plain = Parts(wide["gpt2"])
    sizes = {path: p.numel() for path, p in plain.model.named_parameters()}
    quantized = {path for path, p in parts.model.named_parameters() if is_quantized(p)}
    memory = measure_weight_memory(parts.model)
    assert memory.float32_bytes == 4 * sum(sizes.values())
    assert measure_weight_memory(plain.model).loaded_bytes == memory.float32_bytes
    expected = sum(4 * size for path, size in sizes.items() if path not in quantized)
    for path in quantized:
        blocks = sizes[path] / 64
        scales = blocks + 4 * -(-blocks // 256) + 4 + 256 * 4 if double else 4 * blocks
        expected += sizes[path] / 2 + scales + 16 * 4  # the table of 16 values
    assert memory.loaded_bytes == expected


def test_8_bit_weights_take_a_byte_each_and_a_scale_per_output(wide):
    parts = Parts(wide["gpt2"], quantization="8bit")
    named = dict(parts.model.named_parameters())
    rows = {path: len(p) for path, p in named.items() if is_quantized(p)}
    sizes = [p.numel() * (1 if path in rows else 4) for path, p in named.items()]
    assert measure_weight_memory(parts.model).loaded_bytes == sum(sizes) + 4 * sum(rows.values())


@pytest.fixture
def reload_here(monkeypatch):
    """Let the reload check run in this process; a fresh one takes seconds."""

    def check(folder, trained):
        found = record_outputs(load_adapter(folder), trained.inputs)
        assert found.tensors == trained.tensors
        differences = [
            abs(one - other).max()
            for one, other in zip(found.outputs, trained.outputs, strict=True)
        ]
        assert max(differences) <= 1e-4
        return ReloadCheck(len(trained.inputs), float(max(differences)))

    monkeypatch.setattr("lora_tune.run.check_reload", check)


@pytest.fixture(scope="module")
def rows_of(tmp_path_factory):
    """Folders with a few rows of a task and a base model for it."""
    made = {}

    def make(case):
        base, rows, _, _ = CASES[case]
        if case not in made:
            folder = tmp_path_factory.mktemp("rows")
            for split, count in (("train", 24), ("validation", 8), ("test", 8)):
                lines = [json.dumps(row) + "\n" for row in rows(count)]
                (folder / f"{split}.jsonl").write_text("".join(lines))
            make_base(folder / "base", base)
            made[case] = folder
        return made[case]

    return make


@pytest.mark.parametrize(("bits", "dtype"), [("4bit", "float32"), ("8bit", "bfloat16")])
@pytest.mark.parametrize("case", CASES)
def test_every_task_trains_reloads_and_merges(rows_of, reload_here, tmp_path, case, bits, dtype):
    folder = rows_of(case)
    recipe = {
        "task": case.partition(" ")[0],
        "model": {"name": str(folder / "base"), "quantization": bits, "dtype": dtype},
        "data": {"source": str(folder), "validation": {"split": "validation"}, "max_length": 64}
        | CASES[case][2],
        "training": {
            "num_train_epochs": 1,
            "per_device_train_batch_size": 8,
            "warmup_steps": 0,
            "gradient_checkpointing": True,
        },
    }
    (tmp_path / "tiny.yaml").write_text(json.dumps(recipe))
    shown = []
    run = run_recipe(
        load_recipe(str(tmp_path / "tiny.yaml")), output=tmp_path / "run", show=shown.append
    )
    compared = json.loads((run / "comparison.json").read_text())
    assert compared["reload"]["rows"] == compared["test_rows"] == 8
    assert not any("did not change" in warning for warning in compared["warnings"])
    assert compared["peak_memory_bytes"] > 100e6
    name = {"4bit": "4-bit (nf4)", "8bit": "8-bit (int8)"}[bits]
    assert any(f" MB in {name} and {dtype}." in text for text in shown)
    held = json.loads((run / "environment.json").read_text())["base_weights"]
    assert held["held_in"] == f"{name} and {dtype}"
    assert held["loaded_bytes"] < held["float32_bytes"]
    parities = []
    merged = merge_adapters(
        [run / "adapter"],
        output=tmp_path / "merged",
        options=MergeOptions(force=True),
        show=parities.append,
    )
    assert parities[0].base_quantization == bits
    # 8-bit layers also round their inputs, which a merged model does not.
    assert parities[0].largest_logit_difference < {"4bit": 1e-3, "8bit": 0.5}[bits]
    assert "quantization_config" not in json.loads((merged / "config.json").read_text())


def test_a_fresh_process_and_plain_peft_give_the_same_logits_in_4_bits(run_tiny, tmp_path):
    """The model card says how to load the base model."""
    # Weights larger than usual, so that rounding changes the outputs.
    base = make_base(tmp_path / "base", "gpt2", n_embd=64, initializer_range=0.2)
    run = run_tiny(
        "gpt2",
        model={"name": str(base), "quantization": "4bit", "dtype": "bfloat16"},
        training={"num_train_epochs": 1, "gradient_checkpointing": True},
        reload=True,
    )
    compared = json.loads((run / "comparison.json").read_text())
    assert compared["reload"]["largest_logit_difference"] <= 1e-5
    card = (run / "adapter" / "README.md").read_text()
    assert re.search(r"base model while training +\| 4-bit \(nf4\) and bfloat16 ", card)
    texts = reviews("test")[0][:10]
    ours = load_adapter(run / "adapter").predict(texts)
    for (_, probabilities), prediction in zip(
        ask_plain_peft(card, texts, adapter=run / "adapter"), ours, strict=True
    ):
        # Plain PEFT holds the head in the base model's dtype; without quantization it is 0.2 off.
        assert probabilities == pytest.approx(list(prediction.probabilities.values()), abs=0.04)


@pytest.mark.parametrize(
    ("base", "model"), [("distilbert-base-uncased", {}), ("gpt2", {"quantization": "4bit"})]
)
def test_gradient_checkpointing_does_not_change_a_bit(run_tiny, monkeypatch, base, model):
    calls = []
    checkpoint = transformers.modeling_utils.checkpoint

    def record(*inputs, **options):
        calls.append(options)
        return checkpoint(*inputs, **options)

    monkeypatch.setattr(transformers.modeling_utils, "checkpoint", record)

    def train(**training):
        # Fast training without checkpointing computes the last layer for the first token only.
        fixed = {"num_train_epochs": 1, "bf16": bool(model), "fast": base == "gpt2"}
        folder = run_tiny(
            base,
            model={"dropout": 0.0} | model,
            lora={"dropout": 0.0},
            training=fixed | training,
        )
        return (folder / "adapter" / "adapter_model.safetensors").read_bytes()

    plain = train()
    assert not calls
    assert train(gradient_checkpointing=True) == plain
    assert calls


def test_a_manifest_without_dtype_means_float32(wide, tmp_path):
    parts = Parts(wide["gpt2"], quantization="4bit")
    parts.attach()
    parts.save(tmp_path / "a")
    path = tmp_path / "a" / "manifest.json"
    content = json.loads(path.read_text())
    for key in ("dtype", "double_quantization"):
        del content["base"][key]
    path.write_text(render_manifest(content))
    as_trained = replace(parts.config, dropout=None, pooling="model")
    assert read_manifest(tmp_path / "a").base.model_config() == as_trained
