"""Merged weights give the logits of PEFT's layers and leave the base model's weights unchanged."""

import pytest
import torch

from lora_tune.config.lora import LoraConfig
from lora_tune.fast.fused_lora import can_fuse, fused_lora
from lora_tune.fast.merged_lora import merged_lora
from tests.parts import Parts
from tests.tiny import make_base

BASES = ["bert-base-cased", "distilbert-base-uncased", "gpt2", "llama"]


@pytest.fixture(scope="module", params=BASES)
def parts(request, tmp_path_factory):
    """An adapter with dropout on every linear layer, trained a little."""
    folder = make_base(tmp_path_factory.mktemp("base"), request.param)
    made = Parts(folder, LoraConfig(rank=4, alpha=8, dropout=0.5))
    made.attach()
    made.train_a_little()
    return made


def weights(model):
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def test_logits_are_those_of_peft_and_weights_stay(parts):
    before, expected = weights(parts.adapted), parts.logits(parts.adapted)
    with parts.adapted.disable_adapter():
        assert not torch.allclose(parts.logits(parts.adapted), expected, atol=1e-3), "train more"
    with merged_lora(parts.adapted) as layers:
        assert layers == sum(name.endswith("lora_A.default.weight") for name in before)
        found = parts.logits(parts.adapted)
        assert weights(parts.adapted) == before
    assert not torch.equal(found, expected), "these would be PEFT's own"
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert weights(parts.adapted) == before
    assert torch.equal(parts.logits(parts.adapted), expected)


def test_pefts_forward_is_back_when_evaluation_fails(parts):
    before = weights(parts.adapted)
    with pytest.raises(ZeroDivisionError), merged_lora(parts.adapted):
        raise ZeroDivisionError
    assert weights(parts.adapted) == before
    assert not any("forward" in vars(layer) for layer in parts.adapted.modules())


def test_a_fused_forward_is_back_afterwards(parts):
    with fused_lora(parts.adapted):
        fused = [vars(layer).get("forward") for layer in parts.adapted.modules()]
        assert any(fused)
        with merged_lora(parts.adapted):
            assert [vars(layer).get("forward") for layer in parts.adapted.modules()] != fused
        assert [vars(layer).get("forward") for layer in parts.adapted.modules()] == fused
    assert not any("forward" in vars(layer) for layer in parts.adapted.modules())


def test_where_nothing_can_be_merged_peft_evaluates_during_training(parts):
    parts.adapted.bfloat16()
    expected = parts.logits(parts.adapted)
    with fused_lora(parts.adapted):
        with merged_lora(parts.adapted) as layers:
            assert layers == 0
            assert torch.equal(parts.logits(parts.adapted), expected)
        assert any("forward" in vars(layer) for layer in parts.adapted.modules())
    parts.adapted.float()


def test_16_bit_weights_are_left_to_peft(parts):
    parts.adapted.bfloat16()
    with merged_lora(parts.adapted) as layers:
        assert layers == 0
    parts.adapted.float()
    with torch.autocast("cpu", torch.bfloat16):
        layer = next(m for m in parts.adapted.modules() if can_fuse(m))
        x = torch.randn(64, layer.in_features)
        expected = layer(x)
        with merged_lora(parts.adapted) as layers:
            assert layers
            assert torch.equal(layer(x), expected)


def test_weights_beyond_the_memory_limit_are_left_to_peft(parts, monkeypatch):
    monkeypatch.setattr("lora_tune.fast.merged_lora.MAX_BYTES", 1000)
    with merged_lora(parts.adapted) as layers:
        assert layers == 0


def test_dora_is_left_to_peft(tmp_path):
    made = Parts(make_base(tmp_path, "bert-base-cased"), LoraConfig(rank=4, use_dora=True))
    made.attach()
    with merged_lora(made.adapted) as layers:
        assert layers == 0


@pytest.mark.parametrize("fast", [True, False])
def test_a_fast_run_evaluates_with_merged_weights(run_tiny, monkeypatch, fast):
    called = []

    def watch(model):
        called.append(model)
        return merged_lora(model)

    monkeypatch.setattr("lora_tune.fast.acceleration.merged_lora", watch)
    run_tiny(training={"num_train_epochs": 2, "fast": fast}, overrides=["seeds=[1, 2]"])
    assert len(called) == (6 if fast else 0)  # for each seed, two epochs and the test rows
