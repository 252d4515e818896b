"""Dropout on a CPU drops each element with its probability and keeps the mean."""

import pytest
import torch
from safetensors.torch import load_file

from lora_tune.config.lora import LoraConfig
from lora_tune.fast.cpu_attention import product_attention
from lora_tune.fast.cpu_dropout import MIN_BYTE_DROPOUT, cpu_dropout, draw_keep_mask
from tests.parts import Parts
from tests.tiny import make_base


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.5])
def test_each_element_is_dropped_with_its_probability(share, dtype):
    torch.manual_seed(0)
    kept = draw_keep_mask(torch.empty(100_003, 11, dtype=dtype), share)
    assert kept.dtype == dtype
    assert kept.unique().tolist() == [0, 1]
    dropped = 1 - kept.double()
    count = dropped.numel()
    # Four standard deviations of so many independent draws.
    assert dropped.mean().item() == pytest.approx(share, abs=4 * (share / count) ** 0.5)
    by_column = dropped.mean(dim=0)
    assert torch.allclose(by_column, torch.tensor(share).double(), atol=4 * (share / 1e5) ** 0.5)
    dropped = dropped.flatten()
    more = 0 if share < MIN_BYTE_DROPOUT else 1 / 512**2  # from the shared limit of a row
    for apart in range(1, 9):  # eight elements come from one number of the generator
        together = (dropped[apart:] * dropped[:-apart]).mean().item()
        assert together == pytest.approx(share**2, abs=4 * share / count**0.5 + more)
    assert not torch.equal(draw_keep_mask(kept, share), kept)


def test_both_limits_around_a_rate_are_drawn():
    torch.manual_seed(0)
    kept = draw_keep_mask(torch.empty(500, 100_000), 0.1)  # 230.4 of 256 are kept
    shares = kept.mean(dim=1)
    low = shares < 230.5 / 256
    assert low.double().mean().item() == pytest.approx(0.6, abs=0.08)
    assert shares[low].mean().item() == pytest.approx(230 / 256, abs=3e-4)
    assert shares[~low].mean().item() == pytest.approx(231 / 256, abs=3e-4)


@pytest.mark.parametrize("shape", [(3,), (2, 0), (1, 1), (2, 3, 5)])
def test_any_shape_is_drawn(shape):
    assert draw_keep_mask(torch.empty(shape), 0.5).shape == shape


def test_layers_keep_the_mean_and_use_one_mask_in_both_directions():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Dropout(0.25), torch.nn.Dropout(0.0))
    x = torch.ones(4, 100, 256, requires_grad=True)
    with cpu_dropout(model) as layers:
        assert layers == 1
        y = model.train()(x)
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert torch.equal(model.eval()(x), x)
    assert torch.equal(gradient, y)
    assert y.unique().tolist() == [0, pytest.approx(4 / 3)]
    assert y.mean().item() == pytest.approx(1, abs=0.01)
    assert not any("forward" in vars(module) for module in model)


def test_pooled_states_use_torchs_dropout():
    x = torch.ones(40, 256)
    model = torch.nn.Sequential(torch.nn.Dropout(0.25)).train()
    torch.manual_seed(0)
    expected = model(x)
    torch.manual_seed(0)
    with cpu_dropout(model):
        assert torch.equal(model(x), expected)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_draws_the_same_mask_twice(tmp_path, reentrant):
    made = Parts(make_base(tmp_path, "bert-base-cased"), LoraConfig(rank=4), dropout=0.3)
    made.attach()
    made.train_a_little()
    inputs = made.batch(6)

    def gradients(model):
        torch.manual_seed(0)
        with cpu_dropout(model), product_attention():
            model(**inputs).logits.square().sum().backward()
        found = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
        model.zero_grad()
        return found

    model = made.adapted.train()
    model.enable_input_require_grads()
    expected = gradients(model)
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    for name, gradient in gradients(model).items():
        assert torch.allclose(gradient, expected[name], rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("bf16", [False, True])
def test_a_run_with_dropout_in_the_base_model_uses_it(run_tiny, monkeypatch, bf16):
    drawn = []
    modules = ("cpu_dropout", "cpu_attention", "fused_lora")
    for module in modules:
        monkeypatch.setattr(
            f"lora_tune.fast.{module}.draw_keep_mask",
            lambda x, share, module=module: (
                drawn.append((module, share)) or draw_keep_mask(x, share)
            ),
        )

    def train(**more):
        folder = run_tiny(
            base="bert-base-cased",
            lora={"dropout": 0.2},
            model={"dropout": 0.3},
            training={"num_train_epochs": 1, "bf16": bf16} | more,
        )
        return load_file(folder / "adapter" / "adapter_model.safetensors")

    first, second = train(), train()
    assert set(drawn) >= {("cpu_dropout", 0.3), ("cpu_attention", 0.3), ("fused_lora", 0.2)}
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    drawn.clear()
    train(fast=False)
    assert not drawn
