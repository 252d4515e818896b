"""Frozen weights that are cast once compute what autocast computes, bit for bit, and only there."""

from contextlib import nullcontext

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from lora_tune.config.lora import LoraConfig
from lora_tune.fast.bfloat16_weights import cast_weights, patched_with_casts
from lora_tune.fast.fused_lora import fused_lora
from lora_tune.tasks import make_task
from tests.parts import Parts
from tests.tiny import make_base

CASES = {
    "bert-base-cased": ("sequence_classification", ["query"]),
    "gpt2": ("causal_lm", ["c_attn"]),  # its output layer shares its weights with the embeddings
    "llama": ("sequence_classification", "all-linear"),
}


@pytest.fixture(scope="module", params=CASES)
def parts(request, tmp_path_factory):
    folder = make_base(tmp_path_factory.mktemp("base"), request.param)
    task, targets = CASES[request.param]
    lora = LoraConfig(rank=4, alpha=8, dropout=0.0, target_modules=targets)
    made = Parts(folder, lora, task=make_task(task), dropout=0.0)
    made.attach()
    for parameter in made.adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    for module in made.adapted.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return made


def run(parts, *, mixed=True):
    """Logits, and every trained parameter's gradient, of one batch."""
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        logits = parts.adapted(**parts.batch(4)).logits
    logits.float().square().mean().backward()
    gradients = {n: p.grad.clone() for n, p in parts.adapted.named_parameters() if p.requires_grad}
    parts.adapted.zero_grad()
    return {"logits": logits.detach(), **gradients}


@pytest.mark.parametrize("is_fused", [False, True])
@pytest.mark.parametrize("mixed", [True, False])
def test_logits_and_gradients_are_the_same_bit_for_bit(parts, is_fused, mixed):
    casts = cast_weights(parts.adapted, torch.bfloat16)
    with fused_lora(parts.adapted) if is_fused else nullcontext():
        expected = run(parts, mixed=mixed)
    assert casts
    fused = fused_lora(parts.adapted, casts) if is_fused else nullcontext()
    with fused, patched_with_casts(casts):
        found = run(parts, mixed=mixed)
    assert any(value.any() for name, value in found.items() if "lora_A" in name)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert not any("forward" in vars(module) for module in parts.adapted.modules())


def test_casts_are_used_under_autocast(parts):
    casts = cast_weights(parts.adapted, torch.bfloat16)
    for weight, _ in casts.values():
        weight.normal_()
    expected = run(parts)["logits"]
    with patched_with_casts(casts):
        assert not torch.equal(run(parts)["logits"], expected)
    with fused_lora(parts.adapted):
        expected = run(parts)["logits"]
    with fused_lora(parts.adapted, casts):
        assert not torch.equal(run(parts)["logits"], expected)


def test_trained_weights_are_not_cast(parts):
    casts = cast_weights(parts.adapted, torch.bfloat16)
    linear = [m for m in parts.adapted.modules() if type(m) in (torch.nn.Linear, Conv1D)]
    frozen = {m for m in linear if not m.weight.requires_grad}
    unused = {m for n, m in parts.adapted.named_modules() if "original_module" in n}
    assert casts.keys() == frozen - unused
    assert len(frozen) < len(linear)


def test_nothing_is_cast_beyond_the_memory_limit(parts, monkeypatch):
    monkeypatch.setattr("lora_tune.fast.bfloat16_weights.MAX_BYTES", 1000)
    assert cast_weights(parts.adapted, torch.bfloat16) == {}


def test_a_layer_with_a_hook_is_not_cast(parts):
    layer = next(iter(cast_weights(parts.adapted, torch.bfloat16)))
    hook = layer.register_forward_pre_hook(lambda *_: None)
    assert layer not in cast_weights(parts.adapted, torch.bfloat16)
    hook.remove()
    assert layer in cast_weights(parts.adapted, torch.bfloat16)


@pytest.mark.parametrize(
    ("training", "count"), [({"bf16": True}, 1), ({}, 0), ({"bf16": True, "fast": False}, 0)]
)
def test_training_casts_once_and_uses_the_casts(run_tiny, monkeypatch, training, count):
    made, used = [], []

    def watch_cast(*arguments):
        made.append(cast_weights(*arguments))
        return made[-1]

    def watch_patch(casts):
        used.append(len(casts))
        return patched_with_casts(casts)

    monkeypatch.setattr("lora_tune.fast.acceleration.cast_weights", watch_cast)
    monkeypatch.setattr("lora_tune.fast.acceleration.patched_with_casts", watch_patch)
    run_tiny(training=training | {"num_train_epochs": 1})
    assert len(made) == count
    assert all(number > 0 for number in used) == bool(count) or not used
    assert bool(used) == training.get("fast", True)
    assert made == [{}] * count  # none outlives the training
