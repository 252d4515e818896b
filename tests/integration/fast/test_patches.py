"""No patch outlives its training, whether it ends normally, by an error or by Ctrl-C."""

import pytest
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from lora_tune.fast import acceleration
from lora_tune.fast.patches import (
    forward_hook,
    forward_pre_hook,
    patched_attention,
    patched_forward,
    without_patch,
)
from lora_tune.training import trainer as trainer_module
from lora_tune.training.trainer import AdapterTrainer

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
CLASSIFIER = {
    "base": "bert-base-cased",
    "model": {"dropout": 0.0},
    "lora": {"layers_to_transform": [1], "target_modules": ["query", "value"]},
    "training": {"bf16": True, "gradient_accumulation_steps": 2},
}
DROPOUT = {"model": {"dropout": 0.1}}  # random numbers in the trunk, so it is not cached
CAUSAL = {"base": "gpt2", "overrides": ["task=causal_lm", "data.labels=null"]}
CLASSIFIER_PATCHES = {"first_token", "fused_lora", "bfloat16_weights", "cpu_dropout"}
# Runs of tiny models, and the files of lora_tune/fast whose patches are applied in a step.
RUNS = {
    "frozen trunk": (CLASSIFIER, CLASSIFIER_PATCHES | {"frozen_trunk"}),
    "dropout": (CLASSIFIER | DROPOUT, CLASSIFIER_PATCHES),
    "language model": (CAUSAL, {"chunked_loss", "fused_lora", "cpu_dropout"}),
}


def list_patches(model):
    """The files of lora_tune/fast that have replaced a forward of the model."""
    forwards = [vars(module).get("forward") for module in model.modules()]
    names = {getattr(forward, "__module__", None) or "" for forward in forwards}
    return {name.removeprefix("lora_tune.fast.") for name in names if "lora_tune.fast" in name}


def count_hooks(model):
    return sum(len(getattr(module, name)) for module in model.modules() for name in HOOKS)


def assert_is_as_before(model):
    changed = [
        name
        for name, module in model.named_modules()
        if getattr(module.forward, "__func__", None) is not type(module).forward
    ]
    assert changed == []
    assert count_hooks(model) == 0
    assert AttentionInterface()["sdpa"] is sdpa_attention_forward


@pytest.fixture
def trained(monkeypatch):
    """The models that are trained, and the patches seen at the end of their forward passes."""
    models, patches = [], set()
    accelerate, compute_loss = acceleration.accelerated, AdapterTrainer.step_loss

    def remember(model, *arguments, **named):
        assert_is_as_before(model)
        models.append(model)
        return accelerate(model, *arguments, **named)

    def look(trainer, *arguments, **named):
        patches.update(list_patches(models[-1]))
        assert AttentionInterface()["sdpa"] is not sdpa_attention_forward
        assert count_hooks(models[-1]) > 0
        return compute_loss(trainer, *arguments, **named)

    monkeypatch.setattr(trainer_module, "accelerated", remember)
    monkeypatch.setattr(AdapterTrainer, "step_loss", look)
    return models, patches


def fail_at_call(monkeypatch, owner, name, *, call, error):
    """Let a function raise an error at its nth call."""
    calls = []
    function = getattr(owner, name)

    def fail(*arguments, **named):
        calls.append(name)
        if len(calls) == call:
            raise error
        return function(*arguments, **named)

    monkeypatch.setattr(owner, name, staticmethod(fail) if isinstance(owner, type) else fail)


@pytest.mark.parametrize("kind", RUNS)
def test_a_training_that_ends_leaves_no_patch(run_tiny, trained, kind):
    run, expected = RUNS[kind]
    models, patches = trained
    run_tiny(**run)
    assert patches == expected
    assert_is_as_before(models[0])


@pytest.mark.parametrize("error", [RuntimeError("in a step"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("place", ["forward", "backward", "evaluation"])
@pytest.mark.parametrize("kind", RUNS)
def test_a_training_that_stops_leaves_no_patch(run_tiny, trained, monkeypatch, kind, place, error):
    from lora_tune.fast.fused_lora import FusedLora

    run, expected = RUNS[kind]
    models, patches = trained
    if place == "evaluation":
        fail_at_call(monkeypatch, trainer_module, "evaluate_model", call=1, error=error)
    else:
        fail_at_call(monkeypatch, FusedLora, place, call=11, error=error)
    with pytest.raises(type(error)):
        run_tiny(**run)
    assert patches == expected
    assert len(models) == 1
    assert_is_as_before(models[0])


def test_a_baseline_that_is_trained_after_lora_has_no_patches_of_it(run_tiny, trained):
    models, _ = trained
    run_tiny(**CLASSIFIER | {"training": {}}, baselines={"last_layers": 1})
    assert len(models) == 2
    for model in models:
        assert_is_as_before(model)


class Stop(BaseException):
    """An exception that no code expects."""


def test_each_patch_is_undone_by_any_exception():
    import torch

    layer = torch.nn.Linear(2, 2)

    def other(x):
        return x

    def hook(*_):
        return None

    for patch in (
        patched_forward(layer, other),
        without_patch(layer),
        forward_hook(layer, hook),
        forward_pre_hook(layer, hook),
        patched_attention("sdpa", other),
    ):
        with pytest.raises(Stop), patch:
            raise Stop
        assert_is_as_before(layer)


def test_a_patch_on_a_patch_restores_the_first():
    import torch

    layer = torch.nn.Linear(2, 2)

    def first(x):
        return x

    def second(x):
        return 2 * x

    with patched_forward(layer, first):
        with patched_forward(layer, second):
            assert layer.forward is second
            with without_patch(layer):
                assert "forward" not in vars(layer)
            assert layer.forward is second
        assert layer.forward is first
    assert_is_as_before(layer)
