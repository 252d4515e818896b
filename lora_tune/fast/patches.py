"""Patches modules of torch, transformers and PEFT for the time of a block.

Every patch is a context manager: it is undone when its block ends, also by an exception.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import AttentionInterface


def is_patched(module: nn.Module) -> bool:
    """Whether a module's forward has been replaced, here or by another library."""
    return "forward" in vars(module)


@contextmanager
def patched_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Replace a module's forward; at the end, restore the previous one."""
    with without_patch(module):
        module.forward = forward
        yield


@contextmanager
def without_patch(module: nn.Module) -> Iterator[None]:
    """Use the forward of a module's class; at the end, restore the previous one."""
    previous = vars(module).pop("forward", None)
    try:
        yield
    finally:
        vars(module).pop("forward", None)
        if previous is not None:
            module.forward = previous


@contextmanager
def forward_pre_hook(module: nn.Module, hook: Callable[..., None]) -> Iterator[None]:
    """Call a hook before each forward of a module; at the end, remove it.

    Args:
        hook: takes the module, its positional arguments and its keyword arguments.
    """
    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def forward_hook(module: nn.Module, hook: Callable[..., None]) -> Iterator[None]:
    """Call a hook after each forward of a module, also after an exception; at the end, remove it.

    Args:
        hook: takes the module, its positional arguments and its output; None after an exception.
    """
    handle = module.register_forward_hook(hook, always_call=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def patched_attention(name: str, attend: Callable[..., Any]) -> Iterator[None]:
    """Replace an attention function for all models of the process; at the end, restore it.

    Args:
        name: under which models of transformers look the function up.
    """
    previous = AttentionInterface()[name]
    AttentionInterface.register(name, attend)
    try:
        yield
    finally:
        AttentionInterface.register(name, previous)
