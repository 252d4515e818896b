"""Attaches, counts, saves, loads and merges the LoRA adapter, with PEFT."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora_tune.config.lora import LoraConfig
from lora_tune.errors import ArtifactError, first_line
from lora_tune.lora.module_selection import (
    is_within,
    last_name,
    select_adapted,
    select_modules_to_save,
    select_targets,
)
from lora_tune.lora.pattern_matching import replace_expressions
from lora_tune.models.checkpoint import Checkpoint
from lora_tune.models.tokenizer import save_tokenizer
from lora_tune.tasks import Task

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig, PeftModel
    from peft.tuners.lora import LoraLayer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
LABELS_FILE = "labels.json"  # label names, in the order of their IDs
PREFIX = "base_model.model."  # of every path in a PeftModel


@dataclass(frozen=True)
class AdaptedModules:
    """The trained modules with the same last name."""

    name: str
    kind: str  # adapter, bias (of the base model), whole (lora.modules_to_save) or head
    layers: int  # how many modules have this name
    parameters: int  # trained


@dataclass(frozen=True)
class AdapterSummary:
    """Which modules are trained, and how many parameters they have."""

    modules: list[AdaptedModules]
    trainable_parameters: int
    total_parameters: int  # of trunk, head and adapter together


def attach_adapter(
    model: "PreTrainedModel",
    lora: LoraConfig,
    *,
    targets: Sequence[str],
    head: Sequence[str],
    task: Task,
) -> "PeftModel":
    """Freeze a model, add LoRA to its target modules and keep its head trainable.

    The initial values are random: set the seed before.

    Source: Hu et al. 2021, arXiv 2106.09685, section 4.1.

    Args:
        targets: module names from `resolve_target_modules`.
        head: modules that are trained in full; see `load_model`.
    """
    import peft

    paths = [path for path, _ in model.named_modules()]
    saved = select_modules_to_save(paths, lora)
    tied = _find_tied_output(model, saved)
    trunk = [path for path in paths if not any(is_within(path, name) for name in head)]
    target_paths = select_targets(trunk, lora, names=targets)
    adapted_paths = select_adapted(target_paths, lora)
    lora = replace_expressions(lora, targets=sorted(target_paths), adapted=sorted(adapted_paths))
    # An untrained pooler may be part of a module of lora.modules_to_save.
    head_to_save = [name for name in head if not any(is_within(name, path) for path in saved)]
    config = peft.LoraConfig(
        task_type=task.peft_task_type,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(targets),
        exclude_modules=lora.exclude_modules,
        layers_to_transform=lora.layers_to_transform,
        rank_pattern=dict(lora.rank_pattern),
        alpha_pattern=dict(lora.alpha_pattern),
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        bias=lora.bias,
        modules_to_save=head_to_save + saved + tied,
        ensure_weight_tying=bool(tied),
        fan_in_fan_out=_has_conv1d(model),
    )
    # EVA and LoftQ need more than the model: see `initialize_adapter`. PEFT warns about PiSSA with
    # patterns, whose change of the base model it cannot undo; `restore_base_weights` can.
    method = lora.init_lora_weights
    config.init_lora_weights = True if method in ("default", "eva", "loftq") else method
    adapted = peft.get_peft_model(model, config)
    # PEFT initializes again when it loads an adapter, which would change base weights for some
    # methods: the saved configuration names the default.
    config.init_lora_weights = True
    return adapted


def count_parameters(model: "PeftModel") -> tuple[int, int]:
    """Count the trainable parameters, and those of trunk, head and adapter together."""
    trainable, total = model.get_nb_trainable_parameters()
    # PEFT keeps the head's initial values beside the trained ones; the model does not use them.
    unused = sum(p.numel() for name, p in model.named_parameters() if ".original_module." in name)
    return trainable, total - unused


def describe_adapter(model: "PeftModel", head: Sequence[str]) -> AdapterSummary:
    """Summarize what is trained: adapted modules first, the head last.

    Args:
        head: names of the head's modules; see `load_model`.
    """
    from peft.utils import ModulesToSaveWrapper

    kinds: dict[str, dict[str, dict[str, int]]] = {
        kind: {} for kind in ("adapter", "bias", "whole", "head")
    }
    wrappers = [path for path, m in model.named_modules() if isinstance(m, ModulesToSaveWrapper)]
    for path, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        wrapper = next((w for w in wrappers if is_within(path, w)), None)
        if wrapper is not None:
            name = module = wrapper.removeprefix(PREFIX)
            kind = "head" if name in head else "whole"
            name = name if kind == "head" else last_name(name)
        else:
            kind = "adapter" if ".lora_" in path else "bias"
            module = path.partition(".lora_")[0].removesuffix(".base_layer.bias")
            module = module.removesuffix(".bias")
            name = last_name(module)
        counts = kinds[kind].setdefault(name, {})
        counts[module] = counts.get(module, 0) + parameter.numel()
    modules = [
        AdaptedModules(name, kind, len(counts), sum(counts.values()))
        for kind, names in kinds.items()
        for name, counts in sorted(names.items())
    ]
    return AdapterSummary(modules, *count_parameters(model))


def adapted_layers(model: "PeftModel") -> "Iterator[tuple[str, LoraLayer]]":
    """Yield each layer with an A and a B, and its path in the base model."""
    for path, module in model.named_modules():
        if "default" in getattr(module, "lora_A", ()):
            yield path.removeprefix(PREFIX), module


def lora_b_parameters(model: "PeftModel") -> "list[torch.nn.Parameter]":
    """List the B matrices of all adapted layers."""
    return [layer.lora_B["default"].weight for _, layer in adapted_layers(model)]


def adapter_tensors(model: "PeftModel") -> "dict[str, torch.Tensor]":
    """Give the tensors that `write_peft_directory` writes, by name; works on the meta device."""
    import peft

    return peft.get_peft_model_state_dict(model, save_embedding_layers=False)


def write_peft_directory(
    model: "PeftModel",
    folder: Path,
    *,
    checkpoint: Checkpoint,
    tokenizer: "PreTrainedTokenizerBase",
    labels: Sequence[str],
    task: Task,
) -> int:
    """Write a PEFT directory with the adapter, the head, the tokenizer and the label names.

    Returns:
        The size of the weights file in bytes.
    """
    config = model.peft_config["default"]
    config.base_model_name_or_path, config.revision = checkpoint.name, checkpoint.revision
    # The order of a set differs from run to run; a sorted list keeps the file the same.
    config.target_modules = sorted(config.target_modules)
    # PEFT keeps tied modules in another field, but needs them here to tie them again on loading.
    tied = getattr(config, "modules_to_tie", None) or ()
    config.modules_to_save = sorted({*config.modules_to_save, *tied})
    # Embeddings that are not trained are not saved, even if resized: no token attends to padding,
    # so the embedding of a new pad token does not matter.
    model.save_pretrained(folder, save_embedding_layers=False)
    save_tokenizer(tokenizer, folder, task)
    text = json.dumps(list(labels), ensure_ascii=False)
    (folder / LABELS_FILE).write_text(text + "\n", encoding="utf-8")
    weights = folder / WEIGHTS_FILE
    weights.chmod((folder / CONFIG_FILE).stat().st_mode)  # safetensors lets only the owner read it
    return weights.stat().st_size


def load_adapter_weights(model: "PreTrainedModel", folder: Path) -> "PeftModel":
    """Load a saved adapter and its head onto the base model, for inference.

    Raises:
        ArtifactError: the weights do not fit this base model.
    """
    import peft
    from safetensors import SafetensorError, safe_open

    path = folder / WEIGHTS_FILE
    try:
        adapted = peft.PeftModel.from_pretrained(model, folder, config=read_config(model, folder))
        with safe_open(path, framework="pt") as file:
            found = set(file.keys())
    except KeyError as error:
        raise ArtifactError(f"{path}: the adapter lacks the tensor {error.args[0]}") from None
    except (SafetensorError, RuntimeError, ValueError, OSError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        sizes = next((line for line in lines if line.startswith("size mismatch")), None)
        problem = sizes or first_line(error)
        raise ArtifactError(f"{path}: does not fit its base model: {problem}") from None
    expected = set(adapter_tensors(adapted))
    if found != expected:
        tensor = min(expected ^ found)
        problem = "lacks the" if tensor in expected else "has an unexpected"
        raise ArtifactError(f"{path}: the adapter {problem} tensor {tensor}")
    return adapted.eval()


def read_config(model: "PreTrainedModel", folder: Path) -> "PeftConfig":
    """Read an adapter's configuration for a base model that may be quantized or not.

    Raises:
        ArtifactError: it is not the configuration of a LoRA adapter.
    """
    import peft

    kind = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")).get("peft_type")
    if kind != "LORA":
        raise ArtifactError(f"{folder / CONFIG_FILE}: found {kind!r} as peft_type, expected LORA")
    config = peft.PeftConfig.from_pretrained(folder)
    config.fan_in_fan_out = _has_conv1d(model)
    config.inference_mode = True
    return config


def merge_adapter(adapted: "PeftModel") -> "PreTrainedModel":
    """Merge an adapter into the weights of its base model.

    Returns:
        A plain transformers model.

    Raises:
        ArtifactError: a merged weight is NaN or infinite.
    """
    try:
        return adapted.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise ArtifactError(first_line(error)) from None


def detach_adapter(adapted: "PeftModel") -> "PreTrainedModel":
    """Remove an adapter from its base model."""
    return adapted.unload()


def _find_tied_output(model: "PreTrainedModel", saved: Sequence[str]) -> list[str]:
    """Find the output layer that is tied to input embeddings of `lora.modules_to_save`."""
    embeddings, output_layer = model.get_input_embeddings(), model.get_output_embeddings()
    if output_layer is None or output_layer.weight is not embeddings.weight:
        return []
    paths = {module: path for path, module in model.named_modules()}
    return [paths[output_layer]] if paths[embeddings] in saved else []


def _has_conv1d(model: "PreTrainedModel") -> bool:
    """Whether weights are (in, out), as in GPT-2's Conv1D; quantized weights are (out, in)."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())
