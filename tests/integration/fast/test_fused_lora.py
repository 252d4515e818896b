"""The fused LoRA layer computes what PEFT's does, and the patch is undone."""

from contextlib import nullcontext

import pytest
import torch

from lora_tune.config.lora import LoraConfig
from lora_tune.fast.fused_lora import FusedLora, LastCast, fused_lora
from tests.parts import Parts
from tests.tiny import make_base

BASES = ["bert-base-cased", "gpt2", "llama", "distilbert-base-uncased"]


@pytest.fixture(scope="module", params=BASES)
def parts(request, tmp_path_factory):
    """An adapter on every linear layer, trained a little, in float64."""
    folder = make_base(tmp_path_factory.mktemp("base"), request.param)
    made = Parts(folder, LoraConfig(rank=4, alpha=8, dropout=0.0), dropout=0.0)
    made.attach()
    made.train_a_little()
    for module in made.adapted.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # the head's own
    made.adapted.double().train()
    return made


def run(parts, dtype=torch.float64):
    """Loss, and every trained parameter's gradient, of one batch."""
    parts.adapted.to(dtype)
    logits = parts.adapted(**parts.batch(6)).logits
    loss = torch.nn.functional.cross_entropy(logits, torch.arange(6) % 3)
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in parts.adapted.named_parameters() if p.requires_grad}
    parts.adapted.zero_grad()
    return logits.detach(), gradients


def test_the_gradient_follows_the_formula():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape, trained=True):
        values = torch.randn(*shape, dtype=torch.float64, generator=generator)
        return values.requires_grad_(trained)

    weight, bias = draw(6, 7, trained=False), draw(7, trained=False)
    x, a, b = draw(5, 6), draw(2, 6), draw(7, 2)
    assert torch.autograd.gradcheck(FusedLora.apply, (x, weight, bias, a, b, 0.7, 0.0))
    assert torch.autograd.gradcheck(FusedLora.apply, (x, weight, None, a, b, 0.7, 0.0))
    # The inputs of the lowest layers need no gradient.
    assert torch.autograd.gradcheck(FusedLora.apply, (x.detach(), weight, bias, a, b, 0.7, 0.0))


@pytest.mark.parametrize(("dtype", "nearness"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_gradients_are_those_of_peft(parts, dtype, nearness):
    logits, expected = run(parts, dtype)
    with fused_lora(parts.adapted) as layers:
        assert layers == sum(name.endswith("lora_A.default.weight") for name in expected)
        fused, found = run(parts, dtype)
    assert torch.allclose(fused, logits, rtol=nearness, atol=nearness)
    for name, gradient in expected.items():
        error = (found[name] - gradient).norm() / gradient.norm().clamp_min(1e-12)
        assert error < nearness, name
    assert gradient.any()


def test_under_autocast_gradients_are_as_exact_as_those_of_peft(parts):
    _, exact = run(parts)

    def error(found):
        return sum((found[name].double() - exact[name]).square().sum() for name in exact)

    with torch.autocast("cpu", torch.bfloat16):
        _, pefts = run(parts, torch.float32)
        with fused_lora(parts.adapted):
            _, found = run(parts, torch.float32)
    parts.adapted.double()
    assert 0 < error(found) < 1.2 * error(pefts)


def test_a_cast_is_made_once_for_layers_with_the_same_input():
    cast = LastCast()
    x = torch.randn(3, 4, requires_grad=True)
    cast.open()
    made = cast(x, torch.bfloat16)
    assert cast(x, torch.bfloat16) is made
    assert cast(x, torch.float16).dtype == torch.float16
    with torch.no_grad():
        assert not cast(x, torch.bfloat16).requires_grad
    (cast(x, torch.bfloat16).sum() + cast(x, torch.bfloat16).sum()).backward()
    assert torch.equal(x.grad, torch.full_like(x, 2))
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            y = torch.randn(3, 4)
            cast(y, torch.bfloat16)
            y.add_(1)
            assert torch.equal(cast(y, torch.bfloat16), y.bfloat16())
    cast.close()
    assert cast.last is None
    assert cast(x, torch.bfloat16) is not cast(x, torch.bfloat16)


@pytest.mark.parametrize("fails", [False, True])
def test_casts_are_released_after_the_models_forward(parts, monkeypatch, fails):
    kept, casts = [], []
    own = LastCast.__call__

    def see(cast, x, dtype):
        made = own(cast, x, dtype)
        kept.append(cast.last is not None and cast.last[0] is x)
        casts.append(cast)
        return made

    monkeypatch.setattr(LastCast, "__call__", see)
    with torch.autocast("cpu", torch.bfloat16), fused_lora(parts.adapted):
        last = next(m for m in reversed([*parts.adapted.modules()]) if hasattr(m, "lora_A"))
        hook = last.register_forward_hook(lambda *_: 1 / 0) if fails else None
        with pytest.raises(ZeroDivisionError) if fails else nullcontext():
            run(parts, torch.float32)
        if hook:
            hook.remove()
    parts.adapted.double()
    assert all(kept)
    assert casts[0].last is None


def test_the_forward_of_peft_is_restored(parts):
    before, _ = run(parts)
    names = set(parts.adapted.state_dict())
    with fused_lora(parts.adapted):
        assert set(parts.adapted.state_dict()) == names
    after, _ = run(parts)
    assert torch.equal(before, after)
    assert not any("forward" in vars(module) for module in parts.adapted.modules())


def test_dropout_drops_inputs_with_its_rate_and_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.ones(400, 200, dtype=torch.float64, requires_grad=True)
    weight = torch.zeros(200, 1, dtype=torch.float64)
    a, b = torch.ones(1, 200, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    y = FusedLora.apply(x, weight, None, a.requires_grad_(), b.requires_grad_(), 1.0, 0.25)
    assert y.mean().item() == pytest.approx(200, rel=0.01)
    y.sum().backward()
    seen = x.grad != 0
    assert 1 - seen.double().mean().item() == pytest.approx(0.25, abs=0.01)
    assert torch.equal(x.grad[seen], torch.full_like(x.grad[seen], 1 / 0.75))
    # The backward pass uses the same mask as the forward pass.
    assert torch.allclose(y[:, 0], x.grad.sum(dim=1))
    assert torch.allclose(a.grad[0], x.grad.sum(dim=0))


@pytest.mark.parametrize(
    "options", [{"use_dora": True}, {"bias": "all"}, {"bias": "lora_only"}], ids=str
)
def test_variants_of_lora_are_left_to_peft(tmp_path, options):
    made = Parts(make_base(tmp_path, "bert-base-cased"), LoraConfig(rank=4, **options))
    made.attach()
    with fused_lora(made.adapted) as layers:
        assert layers == 0
