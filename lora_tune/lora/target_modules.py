"""Resolves the module names of the recipe's `lora:` section before any weights are loaded."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lora_tune.config.lora import LoraConfig
from lora_tune.config.model import ModelConfig
from lora_tune.errors import ModelError, RecipeError, did_you_mean
from lora_tune.lora.module_selection import (
    ends_with,
    is_within,
    last_name,
    layer_number,
    select_adapted,
    select_excluded,
    select_modules_to_save,
    select_targets,
)
from lora_tune.lora.pattern_matching import match_ends
from lora_tune.models.checkpoint import Checkpoint
from lora_tune.models.loading import build_meta_model
from lora_tune.tasks import Task

if TYPE_CHECKING:
    import torch

Modules = dict[str, "torch.nn.Module"]  # by path
SVD_METHODS = ("pissa", "olora", "loftq", "eva")  # their rank is at most that of the weight
REMOVING_KEYS = "exclude_modules, layers_to_transform and modules_to_save"


def resolve_target_modules(
    checkpoint: Checkpoint, config: ModelConfig, *, lora: LoraConfig, task: Task
) -> list[str]:
    """Resolve `lora.target_modules` against the base model's modules.

    This also checks the other keys of `lora:` that name modules, since PEFT silently ignores names
    that match nothing.

    Returns:
        Module names for PEFT; each is the end of the path of at least one module of the trunk.

    Raises:
        ModelError: a name matches no module that LoRA can adapt.
        RecipeError: another key of the section does not fit the base model or the target modules.
    """
    model, head = build_meta_model(checkpoint, config, task=task, labels=())
    trunk = {
        path: module
        for path, module in model.named_modules()
        if path and not any(is_within(path, name) for name in head)
    }
    names = _find_names(trunk, lora, base=checkpoint.name)
    saved = select_modules_to_save(trunk, lora)
    problems = list(_check_saved(trunk, lora, saved=saved, quantized=bool(config.quantization)))
    if problems:
        raise RecipeError("\n".join(problems))
    targets = select_targets(trunk, lora, names=names)
    _check_removing_keys(targets, lora, base=checkpoint.name)
    chosen = select_adapted(targets, lora)
    if lora.target_modules == "all-linear":
        # PEFT adapts a module named by its whole path in any layer: name only the chosen ones.
        names = [name for name in names if any(ends_with(path, name) for path in chosen)]
    adapted = {path: trunk[path] for path in sorted(chosen)}
    problems = list(_check_remaining(names, trunk, adapted=adapted))
    if not problems:
        ranks = _find_by_pattern("rank", lora, adapted=adapted)
        problems = list(_check_initialization(lora, adapted, ranks=ranks))
    _find_by_pattern("alpha", lora, adapted=adapted)
    if problems:
        raise RecipeError("\n".join(problems))
    return names


def _find_names(trunk: Modules, lora: LoraConfig, *, base: str) -> list[str]:
    """Resolve `lora.target_modules` to names, each of at least one layer that LoRA can adapt."""
    linear_layers = {path for path, module in trunk.items() if isinstance(module, _linear())}
    full_rank = max(min(trunk[path].weight.shape) for path in linear_layers)
    if lora.rank > full_rank:
        raise ModelError(
            f"lora.rank: {lora.rank} is above {full_rank}, the full rank of the widest layer of "
            f"{base}"
        )
    if lora.target_modules == "all-linear":
        leaves = {last_name(path) for path in linear_layers}
        # A number, or a name that other modules have too, is ambiguous: use whole paths instead.
        ambiguous = {
            leaf for leaf in leaves if leaf.isdigit() or not _named(leaf, trunk) <= linear_layers
        }
        whole_paths = {path for path in linear_layers if last_name(path) in ambiguous}
        return sorted((leaves - ambiguous) | whole_paths)
    problems = []
    for name in lora.target_modules:
        matched = _named(name, trunk)
        if any(isinstance(trunk[path], _adaptable()) for path in matched):
            continue
        inside = {layer for layer in linear_layers if any(is_within(layer, m) for m in matched)}
        names = sorted({last_name(path) for path in inside or linear_layers})
        if matched:
            problem = f"{name!r} is a {type(trunk[min(matched)]).__name__}, which LoRA cannot adapt"
        else:
            problem = f"{name!r} matches no module of {base}{did_you_mean(name, names)}"
        problems.append(f"lora.target_modules: {problem}; its linear layers: {', '.join(names)}")
    if problems:
        raise ModelError("\n".join(problems))
    return sorted(set(lora.target_modules))


def _check_saved(
    trunk: Modules, lora: LoraConfig, *, saved: list[str], quantized: bool
) -> Iterator[str]:
    """Yield which of `lora.modules_to_save` cannot be trained in full."""
    import torch

    key = "lora.modules_to_save"
    for name in lora.modules_to_save or []:
        if not any(ends_with(path, name) for path in saved):
            near = did_you_mean(name, sorted({last_name(path) for path in trunk}))
            below = "of the base model below its head or output layer"
            yield f"{key}: {name!r} matches no module {below}{near}"
    for path in saved:
        module = trunk[path]
        around = [other for other in saved if other != path and is_within(path, other)]
        if around:
            yield f"{key}: {path} is inside {around[0]}; name only one of them"
        elif isinstance(module, (torch.nn.ModuleList, torch.nn.ModuleDict)):
            yield f"{key}: {path} is a {type(module).__name__}; name the modules inside it"
        elif not any(True for _ in module.parameters()):
            yield f"{key}: {path} is a {type(module).__name__}, which has no parameters to train"
        elif quantized and any(isinstance(part, _linear()) for part in module.modules()):
            yield f"{key}: {path} is quantized and cannot be trained; set model.quantization=null"


def _check_removing_keys(targets: set[str], lora: LoraConfig, *, base: str) -> None:
    """Check that the excluded modules and the layers to transform exist among the targets.

    Raises:
        RecipeError: one of them does not.
    """
    for name, matched in select_excluded(targets, lora).items():
        if not matched:
            near = did_you_mean(name, sorted({last_name(path) for path in targets}))
            raise RecipeError(f"lora.exclude_modules: {name!r} matches no target module{near}")
    numbers = {number for path in targets if (number := layer_number(path)) is not None}
    unknown = sorted(set(lora.layers_to_transform or ()) - numbers)
    if unknown:
        known = f"{min(numbers)} to {max(numbers)}" if numbers else "none"
        raise RecipeError(
            f"lora.layers_to_transform: found {unknown[0]}, but the layers of {base} with target "
            f"modules are {known}"
        )


def _check_remaining(names: list[str], trunk: Modules, *, adapted: Modules) -> Iterator[str]:
    """Yield which names of `lora.target_modules` the keys that remove modules contradict."""
    key = "lora.target_modules"
    for path, module in adapted.items():
        if not isinstance(module, _adaptable()):
            kind = type(module).__name__
            yield f"{key}: {path} is a {kind}, which LoRA cannot adapt; name the others in full"
    if not adapted:
        yield f"{key}: {REMOVING_KEYS} remove all of its modules; keep at least one"
        return
    for name in names:
        if name in trunk and name not in adapted:
            # With layers_to_transform, PEFT would adapt it in spite of the other layers.
            yield f"{key}: {name} is removed by {REMOVING_KEYS}; drop it from one of them"
        elif not any(ends_with(path, name) for path in adapted):
            yield f"{key}: all of {name!r} is removed by {REMOVING_KEYS}; drop it from one of them"


def _find_by_pattern(kind: str, lora: LoraConfig, *, adapted: Modules) -> dict[str, float]:
    """Find the rank or alpha of each layer that a pattern matches."""
    key = f"{kind}_pattern"
    patterns: dict[str, float] = getattr(lora, key)
    pattern_of: dict[str, str] = {}
    for pattern in patterns:
        matched = match_ends(key, pattern, names=list(adapted))
        if not matched:
            leaves = sorted({last_name(path) for path in adapted})
            near = did_you_mean(pattern, leaves) or f"; their names end in {', '.join(leaves)}"
            raise RecipeError(f"lora.{key}: {pattern!r} matches no adapted module{near}")
        # PEFT uses the first pattern that matches, but saves them in another order.
        twice = sorted(matched & pattern_of.keys())
        if twice:
            raise RecipeError(
                f"lora.{key}: {pattern_of[twice[0]]!r} and {pattern!r} both match {twice[0]}; "
                "expected one pattern for each module"
            )
        pattern_of |= dict.fromkeys(matched, pattern)
    return {path: patterns[pattern] for path, pattern in pattern_of.items()}


def _check_initialization(
    lora: LoraConfig, adapted: Modules, *, ranks: dict[str, float]
) -> Iterator[str]:
    """Yield the first layer that the rank, the initialization or LoRA+ does not fit.

    Args:
        ranks: of the layers that `lora.rank_pattern` matches.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    method = lora.init_lora_weights
    kind, _, _ = method.partition("_")
    max_rank = max([lora.rank, *ranks.values()])
    for path, module in adapted.items():
        shape, rank = module.weight.shape, ranks.get(path, lora.rank)
        full_rank, name = min(shape[:2]), f"{path}, a {type(module).__name__}"
        in_features = shape[0] if isinstance(module, Conv1D) else shape[1]
        if not isinstance(module, (torch.nn.Linear, Conv1D)):
            if method != "default":
                yield f"lora.init_lora_weights: {method} is for linear layers, found {name}"
            if lora.lora_plus_ratio is not None:
                yield f"lora.lora_plus_ratio: is for linear layers, found {name}"
        elif method == "olora" and isinstance(module, Conv1D):
            # PEFT would decompose its (in, out) weight without transposing it.
            yield f"lora.init_lora_weights: olora cannot initialize {name}; use pissa"
        elif kind in SVD_METHODS and rank > full_rank:
            yield (
                f"lora.init_lora_weights: {method} takes a rank of at most {full_rank} for {path}, "
                f"found {rank}"
            )
        elif method == "eva" and 2 * max_rank > in_features:
            yield (
                f"lora.init_lora_weights: eva takes ranks of at most {in_features // 2}, half of "
                f"the input features of {path}, found {max_rank}"
            )
        elif path in ranks and rank > full_rank:
            yield f"lora.rank_pattern: {rank} is above {full_rank}, the full rank of {path}"
        else:
            continue
        return  # the problem of other layers is probably the same


def _linear() -> tuple[type, ...]:
    import torch
    from transformers.pytorch_utils import Conv1D

    return (torch.nn.Linear, Conv1D)


def _adaptable() -> tuple[type, ...]:
    import torch

    return (*_linear(), torch.nn.Embedding, torch.nn.Conv1d, torch.nn.Conv2d)


def _named(name: str, trunk: Modules) -> set[str]:
    return {path for path in trunk if ends_with(path, name)}
