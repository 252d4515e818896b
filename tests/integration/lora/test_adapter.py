"""What holds for every adapter, on the architecture of every recipe."""

from contextlib import nullcontext

import pytest
import torch
from safetensors.torch import load_file

from lora_tune.artifacts.saved_adapter import load_adapter
from lora_tune.commands.params import count_recipe
from lora_tune.config.data import DataConfig
from lora_tune.config.lora import LoraConfig
from lora_tune.config.model import ModelConfig
from lora_tune.config.recipe import Recipe
from lora_tune.errors import ModelError
from lora_tune.evaluation.predictor import Predictor
from lora_tune.lora.adapter import adapted_layers, count_parameters, describe_adapter, merge_adapter
from tests.integration.conftest import BASES, NEWER_BASES
from tests.parts import LABELS, TASK, Parts
from tests.tiny import make_base, reviews

HEADS = {
    "distilbert-base-uncased": ["pre_classifier", "classifier"],
    "bert-base-cased": ["classifier"],
    "roberta-base": ["classifier"],
    "gpt2": ["score"],
    "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T": ["score"],
    "meta-llama/Llama-3.1-8B": ["score"],
    "Qwen/Qwen2.5-1.5B-Instruct": ["score"],
    "tiiuae/falcon-7b": ["score"],
    "microsoft/deberta-v3-base": ["pooler", "classifier"],
    "answerdotai/ModernBERT-base": ["head", "classifier"],
}
GATED = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
LAYERS = {
    "distilbert-base-uncased": ["k_lin", "lin1", "lin2", "out_lin", "q_lin", "v_lin"],
    "bert-base-cased": ["dense", "key", "query", "value"],
    "roberta-base": ["dense", "key", "query", "value"],
    "gpt2": ["c_attn", "c_fc", "c_proj"],
    "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T": GATED,
    "meta-llama/Llama-3.1-8B": GATED,
    "Qwen/Qwen2.5-1.5B-Instruct": GATED,
    "tiiuae/falcon-7b": ["dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value"],
    "microsoft/deberta-v3-base": ["dense", "key_proj", "query_proj", "value_proj"],
    "answerdotai/ModernBERT-base": ["Wi", "Wo", "Wqkv"],
}


@pytest.fixture(params=BASES + NEWER_BASES)
def parts(request, bases):
    made = Parts(bases[request.param])
    made.name = request.param
    return made


def test_the_head_is_everything_beside_the_trunk(parts):
    assert parts.head == HEADS[parts.name]
    assert parts.has_untrained_head


def test_all_linear_names_the_layers_of_the_trunk(parts):
    assert parts.targets == LAYERS[parts.name]


def test_an_untrained_adapter_changes_no_logit(parts):
    before = parts.logits(parts.model)
    assert torch.equal(parts.logits(parts.attach()), before)


def test_training_changes_adapter_and_head_only(parts):
    parts.attach()
    before = {name: p.detach().clone() for name, p in parts.adapted.named_parameters()}
    parts.train_a_little()
    changed = {
        name for name, p in parts.adapted.named_parameters() if not torch.equal(p, before[name])
    }
    allowed = {name for name in before if ".lora_" in name or ".modules_to_save." in name}
    assert changed == allowed


def test_training_lowers_the_loss(parts):
    parts.attach()
    losses = parts.train_a_little(steps=24)
    assert min(losses) < 0.9 * losses[0]


@pytest.mark.parametrize("rank", [1, 5])
def test_the_trainable_count_follows_the_formula(parts, rank):
    parts.lora = LoraConfig(rank=rank)
    layers = [
        module
        for name, module in parts.model.named_modules()
        if name.rpartition(".")[2] in parts.targets and name.split(".")[0] not in parts.head
    ]
    head = sum(
        p.numel() for name, p in parts.model.named_parameters() if name.split(".")[0] in parts.head
    )
    expected = head + sum(rank * sum(layer.weight.shape) for layer in layers)  # r (in + out)
    plain = sum(p.numel() for p in parts.model.parameters())
    trainable, total = count_parameters(parts.attach())
    assert trainable == expected
    assert total == plain + expected - head
    summary = describe_adapter(parts.adapted, parts.head)
    assert (summary.trainable_parameters, summary.total_parameters) == (trainable, total)
    assert sum(module.parameters for module in summary.modules) == trainable


def test_counts_from_the_configuration_are_those_of_the_model(parts, tmp_path):
    (tmp_path / "config.json").write_bytes((parts.checkpoint.folder / "config.json").read_bytes())
    count = count_recipe(
        Recipe(model=ModelConfig(name=str(tmp_path)), data=DataConfig(labels=LABELS), name="x")
    )
    parts.attach()
    written = parts.save(tmp_path / "adapter")
    assert (count.trainable_parameters, count.total_parameters) == count_parameters(parts.adapted)
    assert count.adapter_bytes == written


def test_saved_loaded_and_merged_models_give_the_same_logits(parts, tmp_path):
    parts.attach()
    parts.train_a_little()
    texts = reviews()[0][:20]
    before = Predictor(parts.adapted, parts.tokenizer, TASK, LABELS).predict(texts)
    parts.save(tmp_path / "a")
    loaded = load_adapter(tmp_path / "a")
    assert loaded.labels == LABELS
    for old, new in zip(before, loaded.predict(texts), strict=True):
        assert new.label == old.label
        assert new.probabilities == pytest.approx(old.probabilities, abs=1e-6)
    trained = parts.logits(parts.adapted)
    merged = merge_adapter(loaded.model)
    assert not [name for name, _ in merged.named_parameters() if "lora" in name]
    assert torch.allclose(parts.logits(merged), trained, atol=1e-4)


def test_a_pooler_that_the_checkpoint_lacks_is_trained_and_saved(tmp_path):
    base = make_base(tmp_path / "base", "bert-base-cased", auto_class="AutoModelForMaskedLM")
    parts = Parts(base)
    assert "bert.pooler.dense" in parts.head
    parts.attach()
    parts.train_a_little()
    before = parts.logits(parts.adapted)
    parts.save(tmp_path / "a")
    torch.manual_seed(99)  # another random pooler, if it were not saved
    loaded = load_adapter(tmp_path / "a")
    assert torch.allclose(parts.logits(loaded.model), before, atol=1e-6)


def test_weights_that_lack_a_tensor_of_the_trunk_are_refused(tmp_path):
    from safetensors.torch import save_file

    base = make_base(tmp_path / "base", "distilbert-base-uncased")
    path = base / "model.safetensors"
    tensors = load_file(path)
    lost = next(name for name in tensors if "q_lin.weight" in name)
    del tensors[lost]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"its weights lack .*q_lin.weight"):
        Parts(base)


def test_a_head_in_the_checkpoint_is_not_reported_as_untrained(tmp_path, bases):
    assert Parts(bases["bert-base-cased"]).has_untrained_head
    trained = make_base(
        tmp_path / "base",
        "bert-base-cased",
        auto_class="AutoModelForSequenceClassification",
        num_labels=3,
    )
    assert not Parts(trained).has_untrained_head
    # Of the head's two modules, the last one is for other labels.
    other = make_base(
        tmp_path / "other",
        "distilbert-base-uncased",
        auto_class="AutoModelForSequenceClassification",
        num_labels=2,
    )
    assert Parts(other).has_untrained_head


def test_the_seed_determines_head_and_adapter(bases):
    def weights(seed):
        parts = Parts(bases["distilbert-base-uncased"], seed=seed)
        parts.attach()
        return {n: p for n, p in parts.adapted.named_parameters() if p.requires_grad}

    first, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(first[n], again[n]) for n in first)
    differ = {n for n in first if not torch.equal(first[n], other[n])}
    assert any("lora_A" in n for n in differ)
    assert any("classifier" in n for n in differ)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("q_lim", "'q_lim' matches no module of"),
        (
            "q_lim",
            "did you mean q_lin?; its linear layers: k_lin, lin1, lin2, out_lin, q_lin, v_lin",
        ),
        ("attention", "'attention' is a DistilBertSelfAttention, which LoRA cannot adapt; its li"),
        ("classifier", "'classifier' matches no module of"),
    ],
)
def test_a_target_that_matches_nothing_is_an_error(bases, target, words):
    with pytest.raises(ModelError) as caught:
        Parts(bases["distilbert-base-uncased"], LoraConfig(target_modules=["q_lin", target]))
    assert words in str(caught.value)


@pytest.mark.parametrize("base", [name for name, head in HEADS.items() if head == ["score"]])
def test_end_of_text_pads_where_there_is_no_pad_token(bases, base):
    """On either side: Llama's older tokenizer pads on the left, the others on the right."""
    parts = Parts(bases[base])
    ends = {"</s>", "<|endoftext|>", "<|end_of_text|>"}
    assert parts.tokenizer.pad_token in ends
    one = Predictor(parts.model, parts.tokenizer, TASK, LABELS)
    long, short = "word " * 50, "Fine."
    together = one.predict([long, short])[1]
    assert together.probabilities == pytest.approx(one.predict([short])[0].probabilities, abs=1e-5)


def test_a_new_pad_token_resizes_the_embeddings_and_is_saved(bases, tmp_path):
    parts = Parts(bases["gpt2"], pad_token="<pad>")
    rows = parts.model.get_input_embeddings().weight.shape[0]
    assert rows == len(parts.tokenizer) == 258
    parts.attach()
    parts.train_a_little()
    before = parts.logits(parts.adapted)
    parts.save(tmp_path / "a")
    names = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert not [name for name in names if "wte" in name]  # no untrained weights are saved
    loaded = load_adapter(tmp_path / "a")
    assert torch.allclose(parts.logits(loaded.model), before, atol=1e-5)
    recipe = Recipe(model=parts.config, data=DataConfig(labels=LABELS, max_length=64), name="x")
    count = count_recipe(recipe)
    assert (count.trainable_parameters, count.total_parameters) == count_parameters(parts.adapted)


@pytest.mark.parametrize("base", HEADS)
def test_every_adapted_layer_is_quantized(bases, base):
    """Except a pooler, which is trained in full where a checkpoint lacks it."""
    parts = Parts(bases[base], quantization="4bit")
    layers = {path: layer.get_base_layer() for path, layer in adapted_layers(parts.attach())}
    plain = {p for p, m in layers.items() if not type(m).__module__.startswith("bitsandbytes")}
    assert not {path for path in plain if ".pooler." not in path}


def test_a_base_model_without_quantizable_layers_is_refused(bases, monkeypatch):
    monkeypatch.setattr("lora_tune.models.loading.quantizable_layers", lambda _: nullcontext())
    with pytest.raises(ModelError, match=r"has no layers that can be quantized; set model\.quan"):
        Parts(bases["tiiuae/falcon-7b"], quantization="4bit")


@pytest.mark.parametrize("base", HEADS)
def test_the_recipe_sets_dropout_in_the_trunk_but_not_in_the_head(bases, base):
    def rates(**changes):
        parts = Parts(bases[base], **changes)
        found = {n: m.p for n, m in parts.model.named_modules() if isinstance(m, torch.nn.Dropout)}
        trunk = {n for n in found if n.startswith(f"{parts.model.base_model_prefix}.")}
        return {n: found[n] for n in trunk}, {n: p for n, p in found.items() if n not in trunk}

    _, own = rates(dropout=None)
    trunk, head = rates(dropout=0.3)
    assert set(trunk.values()) <= {0.3}
    assert head == own
    trunk, head = rates()
    assert set(trunk.values()) <= {0.0}
    assert head == own
