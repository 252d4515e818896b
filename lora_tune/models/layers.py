"""Finds parts of a loaded model: its head, its stack of layers, and what is never quantized."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lora_tune.errors import ModelError

if TYPE_CHECKING:
    from torch.nn import Linear, Module
    from transformers import PreTrainedModel


def head_modules(model: "PreTrainedModel") -> list[str]:
    """List the modules with parameters outside the trunk: the task's head."""
    if not hasattr(model, model.base_model_prefix):  # T5: encoder, decoder and head are siblings
        head = model.get_output_embeddings()
        return [name for name, module in model.named_children() if module is head]
    return [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and any(True for _ in module.parameters())
    ]


def last_linear(model: "PreTrainedModel", head: Sequence[str]) -> "Linear | None":
    """Find the last linear layer of a head, which gives the logits; None where there is none."""
    from torch.nn import Linear

    layers = [
        module
        for name in head
        for module in model.get_submodule(name).modules()
        if isinstance(module, Linear) and module.out_features == model.config.num_labels
    ]
    return layers[-1] if layers else None


def trained_output_layer(model: "Module") -> "Linear":
    """Find the layer that gives the logits among a model's trained ones."""
    from torch.nn import Linear

    *_, last = (m for m in model.modules() if isinstance(m, Linear) and m.weight.requires_grad)
    return last


def unquantized_modules(model: "PreTrainedModel") -> list[str]:
    """List the modules that are never quantized.

    They are the head, or a language model's output layer, and a pooler, which is trained in full
    if the checkpoint lacks its weights.
    """
    paths = {module: path for path, module in model.named_modules()}
    output_layer = model.get_output_embeddings()
    top = head_modules(model) if output_layer is None else [paths[output_layer]]
    return [*top, *(path for path in paths.values() if path.endswith(".pooler"))]


def find_layers(trunk: "Module") -> "Sequence[Module]":
    """Find a model's stack of layers, bottom layer first; empty if it has none."""
    from torch.nn import ModuleList

    stacks = [module for module in trunk.modules() if isinstance(module, ModuleList)]
    return max(stacks, key=len, default=ModuleList())  # of equally long stacks, the outermost


def unfreeze_layers(model: "PreTrainedModel", last: int | None) -> None:
    """Unfreeze the last layers of the trunk and everything above them.

    Args:
        last: the number of layers; None unfreezes every parameter.

    Raises:
        ModelError: the model has fewer layers.
    """
    model.requires_grad_(True)
    if last is None:
        return
    trunk = model.get_decoder() if model.config.is_encoder_decoder else model.base_model
    layers = find_layers(trunk)
    if last > len(layers):
        raise ModelError(
            f"baselines.last_layers: found {last}, but the base model has {len(layers)} layers"
        )
    first = next(layers[len(layers) - last].parameters())
    for parameter in model.parameters():  # in the order of the forward pass
        if parameter is first:
            break
        parameter.requires_grad_(False)
