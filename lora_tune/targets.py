"""Which modules the recipe's `lora:` section means, found before any weights are loaded."""

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lora_tune.base import Base
from lora_tune.errors import ModelError, RecipeError
from lora_tune.lora import LoraConfig
from lora_tune.matching import match_ends, match_whole
from lora_tune.model import build_meta_model
from lora_tune.recipe import ModelConfig
from lora_tune.suggestions import did_you_mean
from lora_tune.tasks import Task

if TYPE_CHECKING:
    import torch

Modules = dict[str, "torch.nn.Module"]
# The layer's number in a path. Source: PEFT, `check_target_module_exists`.
LAYER_NUMBER = re.compile(r".*?\.[^.]*\.(?P<number>\d+)\.")
SINGULAR_STARTS = ("pissa", "olora", "loftq", "eva")  # made of a matrix's own directions


def find_targets(base: Base, config: ModelConfig, lora: LoraConfig, task: Task) -> list[str]:
    """Resolve `lora.target_modules` against a base's modules, before any weights are loaded.

    Every other key of `lora:` that names modules is checked here too, since PEFT ignores in silence
    what matches nothing.

    Returns:
        Module names for PEFT; each ends the path of at least one layer of the trunk.

    Raises:
        ModelError: a name matches no layer that LoRA can adapt.
        RecipeError: another key of the section does not fit the base, or the keys before it.
    """
    model, head = build_meta_model(base, config, task=task, labels=())
    trunk = {
        path: module
        for path, module in model.named_modules()
        if path and not any(is_within(path, name) for name in head)
    }
    names = _find_names(trunk, lora, base.name)
    saved = find_saved(trunk, lora)
    faults = list(_saved_faults(trunk, lora, saved, quantized=config.quantization is not None))
    if faults:
        raise RecipeError("\n".join(faults))
    named = {path: trunk[path] for path in trunk if any(ends_with(path, name) for name in names)}
    free = {path for path in named if not any(is_within(path, whole) for whole in saved)}
    chosen = (free - _find_excluded(free, lora)) & _find_in_layers(free, lora, base.name)
    if lora.target_modules == "all-linear":
        # PEFT takes a whole path wherever it is, so those left out must not be named.
        names = [name for name in names if any(ends_with(path, name) for path in chosen)]
    adapted = {path: trunk[path] for path in sorted(chosen)}
    faults += _left_over_faults(names, trunk, adapted)
    faults += (
        [] if faults else _start_faults(lora, adapted, _find_by_pattern("rank", lora, adapted))
    )
    _find_by_pattern("alpha", lora, adapted)
    if faults:
        raise RecipeError("\n".join(faults))
    return names


def find_saved(modules: Iterable[str], lora: LoraConfig) -> list[str]:
    """List the paths of the modules that `lora.modules_to_save` names."""
    return sorted(
        path for path in modules if any(ends_with(path, n) for n in lora.modules_to_save or [])
    )


def ends_with(path: str, name: str) -> bool:
    """Whether a module's path is a name, or ends with it from a dot on."""
    return path == name or path.endswith(f".{name}")


def is_within(path: str, module: str) -> bool:
    """Whether a path is that of a module, or of one inside it."""
    return path == module or path.startswith(f"{module}.")


def _find_names(trunk: Modules, lora: LoraConfig, base: str) -> list[str]:
    import torch
    from transformers.pytorch_utils import Conv1D

    linear = (torch.nn.Linear, Conv1D)
    layers = {path for path, module in trunk.items() if isinstance(module, linear)}
    width = max(min(trunk[path].weight.shape) for path in layers)
    if lora.rank > width:
        raise ModelError(
            f"lora.rank: {lora.rank} is above {width}, the full rank of {base}'s widest layer"
        )
    if lora.target_modules == "all-linear":
        leaves = {_leaf(path) for path in layers}
        # A number, or a name that other modules bear too, says too little: give the whole path.
        vague = {leaf for leaf in leaves if leaf.isdigit() or not _matches(leaf, trunk) <= layers}
        return sorted((leaves - vague) | {path for path in layers if _leaf(path) in vague})
    faults = []
    for name in lora.target_modules:
        matched = _matches(name, trunk)
        if any(isinstance(trunk[path], _adaptable()) for path in matched):
            continue
        inside = {layer for layer in layers if any(is_within(layer, m) for m in matched)}
        names = sorted({_leaf(path) for path in inside or layers})
        if matched:
            fault = f"{name!r} is a {type(trunk[min(matched)]).__name__}, which LoRA cannot adapt"
        else:
            fault = f"{name!r} matches no module of {base}{did_you_mean(name, names)}"
        faults.append(f"lora.target_modules: {fault}; its layers are {', '.join(names)}")
    if faults:
        raise ModelError("\n".join(faults))
    return sorted(set(lora.target_modules))


def _saved_faults(
    trunk: Modules, lora: LoraConfig, saved: list[str], *, quantized: bool
) -> Iterator[str]:
    """Say which of `lora.modules_to_save` cannot be trained whole."""
    import torch
    from transformers.pytorch_utils import Conv1D

    key = "lora.modules_to_save"
    for name in lora.modules_to_save or []:
        if not any(ends_with(path, name) for path in saved):
            near = did_you_mean(name, sorted({_leaf(path) for path in trunk}))
            below = "of the base below its head or last layer"
            yield f"{key}: {name!r} matches no module {below}{near}"
    for path in saved:
        module = trunk[path]
        around = [other for other in saved if other != path and is_within(path, other)]
        linear = (torch.nn.Linear, Conv1D)
        if around:
            yield f"{key}: {path} lies within {around[0]}; expected one of the two"
        elif isinstance(module, (torch.nn.ModuleList, torch.nn.ModuleDict)):
            yield f"{key}: {path} is a {type(module).__name__}; name the modules within it"
        elif not any(True for _ in module.parameters()):
            yield f"{key}: {path} is a {type(module).__name__}, which has nothing to train"
        elif quantized and any(isinstance(part, linear) for part in module.modules()):
            yield f"{key}: {path} cannot be trained where it is quantised; model.quantization=null"


def _find_excluded(free: set[str], lora: LoraConfig) -> set[str]:
    """Find the layers that `lora.exclude_modules` leaves out."""
    patterns = lora.exclude_modules or []
    if isinstance(patterns, str):
        found = {patterns: match_whole("exclude_modules", patterns, sorted(free))}
    else:
        found = {name: {path for path in free if ends_with(path, name)} for name in patterns}
    for name, paths in found.items():
        if not paths:
            near = did_you_mean(name, sorted({_leaf(path) for path in free}))
            raise RecipeError(f"lora.exclude_modules: {name!r} matches no target module{near}")
    return set().union(*found.values())


def _find_in_layers(free: set[str], lora: LoraConfig, base: str) -> set[str]:
    """Find the layers that `lora.layers_to_transform` leaves in."""
    if lora.layers_to_transform is None:
        return free
    matches = {path: LAYER_NUMBER.match(path) for path in free}
    numbers = {path: int(match["number"]) for path, match in matches.items() if match}
    astray = sorted(set(lora.layers_to_transform) - set(numbers.values()))
    if astray:
        there = f"{min(numbers.values())} to {max(numbers.values())}" if numbers else "none"
        raise RecipeError(
            f"lora.layers_to_transform: found {astray[0]}, but the layers of {base} with target "
            f"modules are {there}"
        )
    return {path for path, number in numbers.items() if number in lora.layers_to_transform}


def _left_over_faults(names: list[str], trunk: Modules, adapted: Modules) -> Iterator[str]:
    """Say which names of `lora.target_modules` mean nothing beside the keys that take away."""
    keys = "exclude_modules, layers_to_transform and modules_to_save"
    key = "lora.target_modules"
    for path, module in adapted.items():
        if not isinstance(module, _adaptable()):
            kind = type(module).__name__
            yield f"{key}: found {path}, a {kind}, which LoRA cannot adapt; name the others in full"
    if not adapted:
        yield f"{key}: nothing is left of it by {keys}; leave some layers to adapt"
        return
    for name in names:
        if name in trunk and name not in adapted:
            # PEFT would adapt it all the same where its layer is not one of those to transform.
            yield f"{key}: found {name}, but {keys} take it away; drop it in one of them"
        elif not any(ends_with(path, name) for path in adapted):
            yield f"{key}: found {name!r}, but {keys} leave nothing of it; drop it in one of them"


def _find_by_pattern(kind: str, lora: LoraConfig, adapted: Modules) -> dict[str, float]:
    """Find each layer's own rank or alpha: of the pattern that matches it."""
    key = f"{kind}_pattern"
    patterns: dict[str, float] = getattr(lora, key)
    owners: dict[str, str] = {}
    for pattern in patterns:
        matched = match_ends(key, pattern, list(adapted))
        if not matched:
            leaves = sorted({_leaf(path) for path in adapted})
            near = did_you_mean(pattern, leaves) or f"; its names end in {', '.join(leaves)}"
            raise RecipeError(f"lora.{key}: {pattern!r} matches no adapted module{near}")
        # PEFT takes the first that matches, but writes them to the file in another order.
        twice = sorted(matched & owners.keys())
        if twice:
            raise RecipeError(
                f"lora.{key}: {owners[twice[0]]!r} and {pattern!r} both match {twice[0]}; expected "
                "one pattern for each module"
            )
        owners |= dict.fromkeys(matched, pattern)
    return {path: patterns[pattern] for path, pattern in owners.items()}


def _start_faults(lora: LoraConfig, adapted: Modules, own: dict[str, float]) -> Iterator[str]:
    """Say what an initialisation, or LoRA+, cannot do with a layer."""
    import torch
    from transformers.pytorch_utils import Conv1D

    start = lora.init_lora_weights
    kind, _, _ = start.partition("_")
    most = max([lora.rank, *own.values()])
    for path, module in adapted.items():
        shape, rank = module.weight.shape, own.get(path, lora.rank)
        full_rank, name = min(shape[:2]), f"{path}, a {type(module).__name__}"
        in_features = shape[0] if isinstance(module, Conv1D) else shape[1]
        if not isinstance(module, (torch.nn.Linear, Conv1D)):
            if start != "default":
                yield f"lora.init_lora_weights: {start} is for linear layers, found {name}"
            if lora.lora_plus_ratio is not None:
                yield f"lora.lora_plus_ratio: is for linear layers, found {name}"
        elif start == "olora" and isinstance(module, Conv1D):
            # PEFT decomposes its weights without turning them round.
            yield f"lora.init_lora_weights: olora cannot begin {name}; use pissa"
        elif kind in SINGULAR_STARTS and rank > full_rank:
            yield (
                f"lora.init_lora_weights: {start} takes a rank of at most {full_rank} for {path}, "
                f"got {rank}"
            )
        elif start == "eva" and 2 * most > in_features:
            yield (
                f"lora.init_lora_weights: eva takes ranks of at most {in_features // 2}, half of "
                f"what goes into {path}, got {most}"
            )
        elif path in own and rank > full_rank:
            yield f"lora.rank_pattern: {rank} is above {full_rank}, the full rank of {path}"
        else:
            continue
        return  # the others would say the same


def _adaptable() -> tuple[type, ...]:
    import torch
    from transformers.pytorch_utils import Conv1D

    return (torch.nn.Linear, Conv1D, torch.nn.Embedding, torch.nn.Conv1d, torch.nn.Conv2d)


def _leaf(path: str) -> str:
    return path.rpartition(".")[2]


def _matches(name: str, trunk: Modules) -> set[str]:
    return {path for path in trunk if ends_with(path, name)}
