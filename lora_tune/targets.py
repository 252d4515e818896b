"""Which layers `lora.target_modules` means, found before any weights are loaded."""

from typing import TYPE_CHECKING

from lora_tune.base import Base
from lora_tune.errors import ModelError
from lora_tune.model import build_meta_model
from lora_tune.recipe import LoraConfig, ModelConfig
from lora_tune.suggestions import did_you_mean
from lora_tune.tasks import SequenceClassification

if TYPE_CHECKING:
    import torch


def find_targets(
    base: Base, config: ModelConfig, lora: LoraConfig, task: SequenceClassification
) -> list[str]:
    """Resolve `lora.target_modules` against a base's modules, before any weights are loaded.

    Returns:
        Module names for PEFT; each ends the path of at least one layer of the trunk.

    Raises:
        ModelError: a name matches no layer that LoRA can adapt.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    model, head = build_meta_model(base, config, task=task, labels=("0", "1"))
    trunk = {
        path: module
        for path, module in model.named_modules()
        if path and not any(path == name or path.startswith(f"{name}.") for name in head)
    }
    linear = (torch.nn.Linear, Conv1D)
    layers = {path for path, module in trunk.items() if isinstance(module, linear)}
    width = max(min(trunk[path].weight.shape) for path in layers)
    if lora.rank > width:
        raise ModelError(
            f"lora.rank: {lora.rank} is above {width}, the full rank of {base.name}'s widest layer"
        )
    if lora.target_modules == "all-linear":
        leaves = {_leaf(path) for path in layers}
        # A number, or a name that other modules bear too, says too little: give the whole path.
        vague = {leaf for leaf in leaves if leaf.isdigit() or not _matches(leaf, trunk) <= layers}
        return sorted((leaves - vague) | {path for path in layers if _leaf(path) in vague})
    adaptable = (*linear, torch.nn.Embedding, torch.nn.Conv1d, torch.nn.Conv2d)
    faults = []
    for name in lora.target_modules:
        matched = _matches(name, trunk)
        if any(isinstance(trunk[path], adaptable) for path in matched):
            continue
        inside = {layer for layer in layers if any(layer.startswith(f"{m}.") for m in matched)}
        names = sorted({_leaf(path) for path in inside or layers})
        if matched:
            fault = f"{name!r} is a {type(trunk[min(matched)]).__name__}, which LoRA cannot adapt"
        else:
            fault = f"{name!r} matches no module of {base.name}{did_you_mean(name, names)}"
        faults.append(f"lora.target_modules: {fault}; its layers are {', '.join(names)}")
    if faults:
        raise ModelError("\n".join(faults))
    return sorted(set(lora.target_modules))


def _leaf(path: str) -> str:
    return path.rpartition(".")[2]


def _matches(name: str, trunk: dict[str, "torch.nn.Module"]) -> set[str]:
    return {path for path in trunk if path == name or path.endswith(f".{name}")}
