"""The LoRA adapter: attached, counted, saved and loaded; alone knows PEFT."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_tune.base import Base
from lora_tune.errors import ArtifactError, ModelError
from lora_tune.model import build_meta_model
from lora_tune.recipe import LoraConfig, ModelConfig
from lora_tune.suggestions import did_you_mean
from lora_tune.tasks import SequenceClassification

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
LABELS_FILE = "labels.json"  # their names, in the order of their numbers


@dataclass(frozen=True)
class AdaptedModules:
    """The modules of one name that an adapter changes, or that it replaces."""

    name: str
    kind: str  # adapter, or head
    layers: int  # modules of that name
    parameters: int  # trained


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


def attach_adapter(
    model: "PreTrainedModel",
    lora: LoraConfig,
    *,
    targets: Sequence[str],
    head: Sequence[str],
    task: SequenceClassification,
) -> "PeftModel":
    """Freeze a model, put LoRA beside its target modules, keep its head trainable; seed before.

    Source: Hu et al. 2021, arXiv 2106.09685, section 4.1.
    """
    import peft
    from transformers.pytorch_utils import Conv1D

    if getattr(model, "is_quantized", False):
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = peft.LoraConfig(
        task_type=task.peft_task_type,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(targets),
        modules_to_save=list(head),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    return peft.get_peft_model(model, config)


def count_parameters(model: "PeftModel") -> tuple[int, int]:
    """Count the trainable parameters, and those of trunk, head and adapter together."""
    trainable, everything = model.get_nb_trainable_parameters()
    # PEFT keeps the head's first values beside the trained ones; they are no part of the model.
    spare = sum(p.numel() for name, p in model.named_parameters() if ".original_module." in name)
    return trainable, everything - spare


def is_untouched(model: "PeftModel") -> bool:
    """Whether every B is still zero, as in a fresh adapter: training changed nothing."""
    return not any(p.any() for name, p in model.named_parameters() if ".lora_B." in name)


def describe_adapter(model: "PeftModel") -> list[AdaptedModules]:
    """List what is trained by module name: adapted modules first, then the head's."""
    from peft.utils import ModulesToSaveWrapper

    adapted: dict[str, list[int]] = {}
    head: dict[str, list[int]] = {}
    for path, module in model.named_modules():
        if hasattr(module, "lora_A"):
            adapted.setdefault(_leaf(path), []).append(_trainable(module))
        elif isinstance(module, ModulesToSaveWrapper):
            head.setdefault(path.removeprefix("base_model.model."), []).append(_trainable(module))
    return [
        AdaptedModules(name, kind, len(counts), sum(counts))
        for kind, names in (("adapter", adapted), ("head", head))
        for name, counts in sorted(names.items())
    ]


def saved_shapes(model: "PeftModel") -> "dict[str, torch.Size]":
    """Name the tensors that `save_adapter` writes, with their shapes; works on the meta device."""
    import peft

    tensors = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tensor.shape for name, tensor in tensors.items()}


def save_adapter(
    model: "PeftModel",
    folder: Path,
    *,
    base: Base,
    tokenizer: "PreTrainedTokenizerBase",
    labels: Sequence[str],
) -> int:
    """Write a PEFT directory with head, tokenizer and label names.

    Returns:
        The bytes of the weights file.
    """
    config = model.peft_config["default"]
    config.base_model_name_or_path, config.revision = base.name, base.revision
    # Sets have no order of their own; a list keeps the file the same from run to run.
    config.target_modules = sorted(config.target_modules)
    config.modules_to_save = sorted(set(config.modules_to_save))
    # Resized embeddings are not trained, and a new pad token's row is never attended to.
    model.save_pretrained(folder, save_embedding_layers=False)
    tokenizer.save_pretrained(folder)
    text = json.dumps(list(labels), ensure_ascii=False)
    (folder / LABELS_FILE).write_text(text + "\n", encoding="utf-8")
    weights = folder / WEIGHTS_FILE
    weights.chmod((folder / CONFIG_FILE).stat().st_mode)  # safetensors leaves it to its owner alone
    return weights.stat().st_size


def read_adapter_config(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Read an adapter directory's PEFT configuration and label names.

    Raises:
        ArtifactError: it is not a complete adapter directory.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: no such adapter directory (looked from {Path.cwd()})")
    if (folder / "adapter" / CONFIG_FILE).is_file():
        raise ArtifactError(f"{folder}: this is a run directory; its adapter is {folder}/adapter")
    contents = []
    for name in (CONFIG_FILE, LABELS_FILE):
        try:
            contents.append(json.loads((folder / name).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise ArtifactError(
                f"{folder}: has no {name}, so it is no adapter directory of lora_tune"
            ) from None
        except ValueError as error:
            raise ArtifactError(f"{folder / name}: damaged: {error}") from None
    if not (folder / WEIGHTS_FILE).is_file():
        raise ArtifactError(f"{folder}: has no {WEIGHTS_FILE}; pickled weights are not loaded")
    config, names = contents
    if not isinstance(config, dict) or not isinstance(config.get("base_model_name_or_path"), str):
        raise ArtifactError(f"{folder / CONFIG_FILE}: damaged: it names no base model")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ArtifactError(f"{folder / LABELS_FILE}: damaged: expected a list of label names")
    return config, names


def load_adapter_weights(model: "PreTrainedModel", folder: Path) -> "PeftModel":
    """Put a saved adapter and its head onto a base model, for inference.

    Raises:
        ArtifactError: the weights are damaged, or not those of this base model.
    """
    import peft
    from safetensors import SafetensorError, safe_open

    path = folder / WEIGHTS_FILE
    try:
        adapted = peft.PeftModel.from_pretrained(model, str(folder))
        with safe_open(path, framework="pt") as file:
            found = set(file.keys())
            broken = {name for name in found if not file.get_tensor(name).isfinite().all()}
    except KeyError as error:
        raise ArtifactError(f"{path}: the adapter lacks the tensor {error.args[0]}") from None
    except (SafetensorError, RuntimeError, ValueError, OSError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        told = next((line for line in lines if line.startswith("size mismatch")), lines[0])
        raise ArtifactError(f"{path}: does not fit its base: {told}") from None
    if broken:
        raise ArtifactError(f"{path}: damaged: {min(broken)} holds NaN or infinite values")
    expected = set(saved_shapes(adapted))
    if found != expected:
        tensor = min(expected ^ found)
        what = "lacks" if tensor in expected else "has no place for"
        raise ArtifactError(f"{path}: the adapter {what} the tensor {tensor}")
    return adapted.eval()


def _leaf(path: str) -> str:
    return path.rpartition(".")[2]


def _matches(name: str, trunk: dict[str, "torch.nn.Module"]) -> set[str]:
    return {path for path in trunk if path == name or path.endswith(f".{name}")}


def _trainable(module: "torch.nn.Module") -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
