"""Patches are undone on every exit, and a patch that was there before is put back."""

import pytest
import torch
from torch import nn
from transformers import AttentionInterface

from lora_tune.fast.patches import is_patched, patched_attention, patched_forward, without_patch


def one(inputs):
    return torch.ones(1)


def fail():
    raise RuntimeError


def test_a_patch_is_undone_after_an_error():
    module = nn.Identity()
    with patched_forward(module, one):
        assert is_patched(module)
        assert module(torch.zeros(1)) == 1
    with pytest.raises(RuntimeError), patched_forward(module, one):
        fail()
    assert not is_patched(module)
    assert module(torch.zeros(1)) == 0


def test_an_earlier_patch_is_put_back():
    module = nn.Identity()
    module.forward = one  # as another library would
    with patched_forward(module, lambda inputs: inputs + 2):
        assert module(torch.zeros(1)) == 2
        with without_patch(module):
            assert module(torch.zeros(1)) == 0
        assert module(torch.zeros(1)) == 2
    assert module(torch.zeros(1)) == 1


def test_an_attention_function_is_put_back():
    own = AttentionInterface()["sdpa"]
    with patched_attention("sdpa", one):
        assert AttentionInterface()["sdpa"] is one
    with pytest.raises(RuntimeError), patched_attention("sdpa", one):
        fail()
    assert AttentionInterface()["sdpa"] is own
