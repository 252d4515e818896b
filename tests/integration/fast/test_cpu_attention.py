"""Attention by matrix products gives torch's own outputs and gradients."""

import pytest
import torch
from torch.nn import functional

from lora_tune.config.lora import LoraConfig
from lora_tune.fast.cpu_attention import ProductAttention, product_attention
from tests.parts import Parts
from tests.tiny import make_base


def draw(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


MASKS = {
    "all": None,
    "causal": torch.ones(5, 5, dtype=torch.bool).tril(),
    "padded": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=torch.bool)[:, None, None],
    "added": torch.linspace(-1, 1, 25, dtype=torch.float64).view(5, 5),
}


@pytest.mark.parametrize("mask", MASKS)
def test_outputs_and_gradients_are_those_of_torch(mask):
    q, k, v = (draw(2, 3, 5, 4, seed=seed) for seed in range(3))
    found = ProductAttention.apply(q, k, v, MASKS[mask], 0.3, 0.0)
    expected = functional.scaled_dot_product_attention(q, k, v, attn_mask=MASKS[mask], scale=0.3)
    assert torch.allclose(found, expected, atol=1e-12)
    assert torch.autograd.gradcheck(ProductAttention.apply, (q, k, v, MASKS[mask], 0.3, 0.0))


@pytest.mark.parametrize("mask", MASKS)
def test_the_gradient_with_dropout_follows_the_formula(mask):
    q, k, v = (draw(2, 3, 5, 4, seed=seed) for seed in range(3))

    def attend(q, k, v):
        torch.manual_seed(0)
        return ProductAttention.apply(q, k, v, MASKS[mask], 0.3, 0.4)

    assert torch.autograd.gradcheck(attend, (q, k, v))
    plain = ProductAttention.apply(q, k, v, MASKS[mask], 0.3, 0.0)
    assert not torch.allclose(attend(q, k, v), plain)


def test_dropout_drops_each_probability_with_its_rate():
    torch.manual_seed(0)
    tokens = 200
    q = k = torch.zeros(4, 3, tokens, 8)
    v = torch.eye(tokens).expand(4, 3, -1, -1)  # so that the output is the probabilities
    shares = ProductAttention.apply(q, k, v, None, 1.0, 0.25) * tokens
    assert shares.unique().tolist() == [0, pytest.approx(4 / 3)]
    assert (shares == 0).float().mean().item() == pytest.approx(0.25, abs=0.003)


def test_values_may_be_narrower_than_queries():
    q, k, v = draw(2, 3, 5, 4, seed=0), draw(2, 3, 5, 4, seed=1), draw(2, 3, 5, 2, seed=2)
    found = ProductAttention.apply(q, k, v, None, 0.3, 0.0)
    expected = functional.scaled_dot_product_attention(q, k, v, scale=0.3)
    assert torch.allclose(found, expected, atol=1e-12)
    assert torch.autograd.gradcheck(ProductAttention.apply, (q, k, v, None, 0.3, 0.0))


@pytest.mark.parametrize("at_once", [1, 30, 80, 1000])
def test_the_number_of_heads_at_once_changes_nothing(monkeypatch, at_once):
    monkeypatch.setattr("lora_tune.fast.cpu_attention.MAX_SCORES", at_once)
    for mask in MASKS.values():
        q, k, v = (draw(2, 3, 5, 4, seed=seed) for seed in range(3))
        found = ProductAttention.apply(q, k, v, mask, 0.3, 0.0)
        expected = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3)
        assert torch.allclose(found, expected, atol=1e-12)
        weights = draw(2, 3, 5, 4, seed=3)
        ours = torch.autograd.grad((found * weights).sum(), (q, k, v))
        theirs = torch.autograd.grad((expected * weights).sum(), (q, k, v))
        assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", ["bert-base-cased", "gpt2", "distilbert-base-uncased"])
def test_a_model_in_bfloat16_is_as_exact_as_with_torchs_attention(name, tmp_path):
    made = Parts(make_base(tmp_path, name), LoraConfig(rank=4), dropout=0.0)
    made.attach()
    made.train_a_little()
    inputs = made.batch(6)
    calls = []

    def gradient(*, half, ours):
        apply = ProductAttention.apply
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ProductAttention, "apply", lambda *a: calls.append(1) or apply(*a))
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                if ours:
                    with product_attention():
                        logits = made.adapted(**inputs).logits
                else:
                    logits = made.adapted(**inputs).logits
        functional.cross_entropy(logits.float(), torch.arange(6) % 3).backward()
        found = torch.cat([p.grad.ravel() for p in made.adapted.parameters() if p.grad is not None])
        made.adapted.zero_grad()
        return found

    exact = gradient(half=False, ours=True)
    assert not calls, "full precision uses torch's attention"
    near = (gradient(half=True, ours=False) - exact).norm()
    own = (gradient(half=True, ours=True) - exact).norm()
    assert len(calls) == 2, "every layer"
    assert own <= 1.5 * near + 1e-4 * exact.norm()
    assert near < 0.2 * exact.norm()


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_full_precision_without_dropout_uses_torchs_attention(tmp_path, monkeypatch, dropout):
    made = Parts(make_base(tmp_path, "gpt2"), LoraConfig(rank=4), dropout=dropout)
    made.attach()
    calls = []
    apply = ProductAttention.apply
    monkeypatch.setattr(ProductAttention, "apply", lambda *a: calls.append(a[-1]) or apply(*a))
    inputs = made.batch(2)
    with product_attention():
        made.adapted.train()(**inputs)
        assert calls == ([dropout] * 2 if dropout else [])
        calls.clear()
        made.adapted.eval()(**inputs)
        assert not calls


def test_inference_uses_torchs_attention(tmp_path, monkeypatch):
    made = Parts(make_base(tmp_path, "bert-base-cased"), LoraConfig(rank=4), dropout=0.0)
    made.attach()
    monkeypatch.setattr(ProductAttention, "apply", None)
    with torch.autocast("cpu", torch.bfloat16), product_attention():
        made.logits(made.adapted)


@pytest.mark.parametrize(("width", "dropout"), [(4, 0.0), (4, 0.1), (1000, 0.0)])
def test_long_texts_without_dropout_use_torchs_attention(tmp_path, monkeypatch, width, dropout):
    monkeypatch.setattr("lora_tune.fast.cpu_attention.MAX_TOKENS", width)
    made = Parts(make_base(tmp_path, "gpt2"), LoraConfig(rank=4), dropout=dropout)
    made.attach()
    calls = []
    apply = ProductAttention.apply
    monkeypatch.setattr(ProductAttention, "apply", lambda *a: calls.append(1) or apply(*a))
    inputs = made.batch(2)
    with torch.autocast("cpu", torch.bfloat16), product_attention():
        made.adapted.train()(**inputs)
    assert bool(calls) == (width == 1000 or dropout > 0)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_queries_of_another_dtype_than_values_are_cast(tmp_path, monkeypatch, dropout):
    # Under autocast, rotary embeddings turn queries and keys to float32.
    folder = make_base(tmp_path, "llama", num_key_value_heads=4)
    made = Parts(folder, LoraConfig(rank=4), dropout=dropout)
    made.attach()
    made.train_a_little()
    calls = []
    apply = ProductAttention.apply
    monkeypatch.setattr(
        ProductAttention, "apply", lambda *a: calls.append([t.dtype for t in a[:3]]) or apply(*a)
    )
    inputs = made.batch(2)
    with torch.autocast("cpu", torch.bfloat16), product_attention():
        made.adapted.train()(**inputs).logits.float().square().sum().backward()
    assert calls == [[torch.bfloat16] * 3] * 2
