"""Selects modules by their paths, as the keys of the recipe's `lora:` section name them."""

import re
from collections.abc import Iterable

from lora_tune.config.lora import LoraConfig
from lora_tune.lora.pattern_matching import match_whole

# The number of a layer in a module's path. Source: PEFT, `check_target_module_exists`.
LAYER_NUMBER = re.compile(r".*?\.[^.]*\.(?P<number>\d+)\.")


def ends_with(path: str, name: str) -> bool:
    """Whether a module's path is a name, or ends with a dot and that name."""
    return path == name or path.endswith(f".{name}")


def is_within(path: str, module: str) -> bool:
    """Whether a path is that of a module, or of a module inside it."""
    return path == module or path.startswith(f"{module}.")


def last_name(path: str) -> str:
    """Give the part of a path after its last dot."""
    return path.rpartition(".")[2]


def select_modules_to_save(paths: Iterable[str], lora: LoraConfig) -> list[str]:
    """Select the modules that `lora.modules_to_save` names."""
    names = lora.modules_to_save or []
    return sorted(path for path in paths if any(ends_with(path, name) for name in names))


def select_targets(paths: Iterable[str], lora: LoraConfig, *, names: Iterable[str]) -> set[str]:
    """Select the modules with a target name, outside `lora.modules_to_save`.

    Args:
        names: the target modules, as for PEFT.
    """
    paths, names = list(paths), list(names)
    saved = select_modules_to_save(paths, lora)
    named = {path for path in paths if any(ends_with(path, name) for name in names)}
    return {path for path in named if not any(is_within(path, module) for module in saved)}


def select_adapted(targets: set[str], lora: LoraConfig) -> set[str]:
    """Select the target modules that neither excluded modules nor layers remove."""
    excluded: set[str] = set().union(*select_excluded(targets, lora).values())
    layers = lora.layers_to_transform
    return {path for path in targets - excluded if layers is None or layer_number(path) in layers}


def select_excluded(targets: set[str], lora: LoraConfig) -> dict[str, set[str]]:
    """Select the target modules that each name, or the pattern, of `lora.exclude_modules` removes.

    Raises:
        RecipeError: the pattern takes too long.
    """
    excluded = lora.exclude_modules or []
    if isinstance(excluded, str):
        return {excluded: match_whole("exclude_modules", excluded, names=sorted(targets))}
    return {name: {path for path in targets if ends_with(path, name)} for name in excluded}


def layer_number(path: str) -> int | None:
    """Find the number of the layer that a module is in; None if it is in no layer."""
    match = LAYER_NUMBER.match(path)
    return int(match["number"]) if match else None
