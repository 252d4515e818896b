"""What holds for a base in 4 or 8 bits or in a narrow type, on every architecture and task."""

import json
import re
from dataclasses import replace

import pytest
import torch
import transformers

from lora_tune.adapter import load_adapter_weights, merge_adapter
from lora_tune.artifact import find_adapter, find_adapter_base
from lora_tune.base import find_base
from lora_tune.manifest import read_manifest, render_manifest
from lora_tune.merging import merge_adapters
from lora_tune.model import load_model, load_tokenizer
from lora_tune.precision import is_quantized, measure_weights, restore_weights
from lora_tune.predictor import load_adapter
from lora_tune.recipe import DataConfig, LoraConfig, ModelConfig
from lora_tune.recipe_file import load_recipe
from lora_tune.reload import ReloadCheck, record_answers
from lora_tune.run import run_recipe
from lora_tune.tasks import find_task
from tests.integration.test_tasks import CASES
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
        "auto_class": "AutoModelForCausalLM",  # its output layer is not its embeddings
    },
}
HEADS = [
    *((name, "sequence_classification") for name in WIDE),
    *((name, "token_classification") for name in WIDE if name != "llama"),
    *((name, "causal_lm") for name in ("gpt2", "llama")),
]
WAYS = {
    "bfloat16": {"dtype": "bfloat16"},
    "float16": {"dtype": "float16"},
    "4bit bfloat16": {"quantization": "4bit", "dtype": "bfloat16"},
    "4bit once": {"quantization": "4bit", "double_quantization": False},
    "8bit bfloat16": {"quantization": "8bit", "dtype": "bfloat16"},
}
# Of a logit: a merged model rounds nothing but weights, its adapter beside the base states too.
ROUNDING = {"bfloat16": 0.05, "float16": 0.01, "4bit bfloat16": 0.05, "4bit once": 1e-4}
ROUNDING["8bit bfloat16"] = 0.1


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Bases wide enough for 4 bits to round them in blocks."""
    root = tmp_path_factory.mktemp("wide")
    return {name: make_base(root / name, name, **sizes) for name, sizes in WIDE.items()}


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
@pytest.mark.parametrize(("name", "task"), HEADS)
def test_heads_and_embeddings_are_never_quantised(wide, name, task, bits):
    config = ModelConfig(name=str(wide[name]), quantization=bits, dtype="bfloat16")
    base, task = find_base(config), find_task(task)
    tokenizer = load_tokenizer(base, config, DataConfig(max_length=64))
    model, head, _ = load_model(base, config, task=task, labels=LABELS, tokenizer=tokenizer)
    quantised = {path for path, p in model.named_parameters() if is_quantized(p)}
    linear = (torch.nn.Linear, transformers.pytorch_utils.Conv1D)
    with torch.device("meta"):
        plain = getattr(transformers, task.auto_class).from_config(model.config)
    trunk = {f"{path}.weight" for path, m in plain.named_modules() if isinstance(m, linear)}
    spared = {path for path in trunk if path.split(".")[0] != model.base_model_prefix}
    assert spared  # a head of the task's own, or a language model's output layer
    spared |= {path for path in trunk if ".pooler." in path}
    assert quantised == trunk - spared
    computes_in = {m.compute_dtype for m in model.modules() if hasattr(m, "compute_dtype")}
    assert computes_in == ({torch.bfloat16} if bits == "4bit" else set())
    for path, parameter in model.named_parameters():
        if path not in quantised:
            is_head = path.split(".")[0] in head
            assert parameter.dtype == (torch.float32 if is_head else torch.bfloat16), path


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["bert-base-cased", "gpt2"])
def test_the_laws_of_adapters_hold(wide, tmp_path, name, way):
    """Fresh as the base; trained in float32; saved as reloaded; merged into what it saw."""
    lora = LoraConfig(rank=4, alpha=8, dropout=0.0)
    parts = Parts(wide[name], lora, **WAYS[way])
    before = parts.logits(parts.model)
    assert torch.equal(parts.logits(parts.attach()), before)
    parts.train_a_little()
    trained = parts.logits(parts.adapted)
    assert trained.dtype == torch.float32
    assert not torch.allclose(trained, before, atol=0.1)
    assert {p.dtype for p in parts.adapted.parameters() if p.requires_grad} == {torch.float32}
    parts.save(tmp_path / "a")
    _, told = find_adapter_base(find_adapter(tmp_path / "a"))
    # How it was loaded comes back with the adapter; dropout is of training alone.
    assert told == replace(parts.config, dropout=None)
    again = Parts(wide[name], lora, seed=3, **WAYS[way])
    loaded = load_adapter_weights(again.model, tmp_path / "a")
    assert torch.allclose(parts.logits(loaded), trained, atol=1e-6)
    whole = parts.load_full()
    base = loaded.unload()
    restore_weights(whole, base)
    computed_with = base.get_input_embeddings().weight.float()
    assert torch.equal(whole.get_input_embeddings().weight, computed_with)
    merged = merge_adapter(load_adapter_weights(whole, tmp_path / "a")).eval()
    assert {p.dtype for p in merged.parameters()} == {torch.float32}
    assert torch.allclose(parts.logits(merged), trained, atol=ROUNDING[way])


def test_a_fresh_pooler_is_trained_on_a_quantised_base(tmp_path):
    sizes = WIDE["bert-base-cased"]
    base = make_base(
        tmp_path / "base", "bert-base-cased", auto_class="AutoModelForMaskedLM", **sizes
    )
    way = {"quantization": "4bit", "dtype": "bfloat16"}
    parts = Parts(base, **way)
    assert "bert.pooler.dense" in parts.head
    parts.attach()
    parts.train_a_little()
    parts.save(tmp_path / "a")
    again = Parts(base, seed=3, **way)
    loaded = load_adapter_weights(again.model, tmp_path / "a")
    assert torch.allclose(parts.logits(loaded), parts.logits(parts.adapted), atol=1e-6)


@pytest.mark.parametrize("double", [True, False])
def test_the_memory_of_weights_is_the_closed_form(wide, double):
    """Half a byte a weight, and for each block of 64 a scale, of 4 bytes or of 1 and its own."""
    parts = Parts(wide["gpt2"], quantization="4bit", double_quantization=double)
    plain = Parts(wide["gpt2"])
    sizes = {path: p.numel() for path, p in plain.model.named_parameters()}
    quantised = {path for path, p in parts.model.named_parameters() if is_quantized(p)}
    memory = measure_weights(parts.model)
    assert memory.float32_bytes == 4 * sum(sizes.values())
    assert measure_weights(plain.model).loaded_bytes == memory.float32_bytes
    expected = sum(4 * size for path, size in sizes.items() if path not in quantised)
    for path in quantised:
        blocks = sizes[path] / 64
        scales = blocks + 4 * -(-blocks // 256) + 4 + 256 * 4 if double else 4 * blocks
        expected += sizes[path] / 2 + scales + 16 * 4  # what the 16 values of 4 bits stand for
    assert memory.loaded_bytes == expected


def test_8_bits_take_a_byte_a_weight_and_a_scale_for_each_output(wide):
    parts = Parts(wide["gpt2"], quantization="8bit")
    named = dict(parts.model.named_parameters())
    rows = {path: len(p) for path, p in named.items() if is_quantized(p)}
    sizes = [p.numel() * (1 if path in rows else 4) for path, p in named.items()]
    assert measure_weights(parts.model).loaded_bytes == sum(sizes) + 4 * sum(rows.values())


@pytest.fixture
def reload_here(monkeypatch):
    """Let the gate load the adapter anew in this process; a fresh one takes seconds."""

    def check(folder, trained):
        found = record_answers(load_adapter(folder), trained.inputs)
        assert found.tensors == trained.tensors
        differences = [
            abs(one - other).max()
            for one, other in zip(found.answers, trained.answers, strict=True)
        ]
        assert max(differences) <= 1e-4
        return ReloadCheck(len(trained.inputs), float(max(differences)))

    monkeypatch.setattr("lora_tune.run.check_reload", check)


@pytest.fixture(scope="module")
def rows_of(tmp_path_factory):
    """A folder of a few rows of a task, and a base for it."""
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
    assert not any("changed nothing" in caveat for caveat in compared["caveats"])
    assert compared["peak_memory_bytes"] > 100e6
    name = {"4bit": "4-bit (nf4)", "8bit": "8-bit (int8)"}[bits]
    assert any(f" MB in {name} and {dtype}." in text for text in shown)
    held = json.loads((run / "environment.json").read_text())["base_weights"]
    assert held["held_in"] == f"{name} and {dtype}"
    assert held["loaded_bytes"] < held["float32_bytes"]
    parities = []
    merged = merge_adapters(
        [run / "adapter"], output=tmp_path / "merged", force=True, show=parities.append
    )
    assert parities[0].base_quantization == bits
    # 8-bit also rounds what goes into each layer, which no merged model does.
    assert parities[0].largest_logit_difference < {"4bit": 1e-3, "8bit": 0.5}[bits]
    assert "quantization_config" not in json.loads((merged / "config.json").read_text())


def test_a_fresh_process_and_plain_peft_answer_alike_in_4_bits(run_tiny, tmp_path):
    """Its card says how the base is to be loaded."""
    # Of larger weights than usual, so that whether they are rounded shows.
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
    assert re.search(r"base while training +\| 4-bit \(nf4\) and bfloat16 ", card)
    texts = reviews("test")[0][:10]
    ours = load_adapter(run / "adapter").predict(texts)
    for (_, chances), answer in zip(
        ask_plain_peft(card, texts, adapter=run / "adapter"), ours, strict=True
    ):
        # Plain PEFT holds the head in the base's type; a base not quantised is 0.2 off.
        assert chances == pytest.approx(list(answer.probabilities.values()), abs=0.04)


@pytest.mark.parametrize(
    ("base", "model"), [("distilbert-base-uncased", {}), ("gpt2", {"quantization": "4bit"})]
)
def test_gradient_checkpointing_changes_no_bit(run_tiny, monkeypatch, base, model):
    calls = []
    checkpoint = transformers.modeling_utils.checkpoint

    def record(*inputs, **options):
        calls.append(options)
        return checkpoint(*inputs, **options)

    monkeypatch.setattr(transformers.modeling_utils, "checkpoint", record)

    def train(**training):
        # A last layer that runs for the first token alone, as it does without, rounds otherwise.
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


def test_a_manifest_from_before_the_types_means_what_it_meant(wide, tmp_path):
    parts = Parts(wide["gpt2"], quantization="4bit")
    parts.attach()
    parts.save(tmp_path / "a")
    path = tmp_path / "a" / "manifest.json"
    content = json.loads(path.read_text())
    for key in ("dtype", "double_quantization"):
        del content["base"][key]
    path.write_text(render_manifest(content))
    assert read_manifest(tmp_path / "a").base.loading() == replace(parts.config, dropout=None)
