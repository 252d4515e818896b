"""The LoRA adapter: attached, counted, saved and loaded; alone knows PEFT."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora_tune.base import Base
from lora_tune.errors import ArtifactError, first_line
from lora_tune.manifest import CONFIG_FILE, LABELS_FILE, WEIGHTS_FILE
from lora_tune.recipe import LoraConfig
from lora_tune.tasks import SequenceClassification

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class AdaptedModules:
    """The modules of one name that an adapter changes, or that it replaces."""

    name: str
    kind: str  # adapter, or head
    layers: int  # modules of that name
    parameters: int  # trained


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

    if getattr(model, "is_quantized", False):
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = peft.LoraConfig(
        task_type=task.peft_task_type,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(targets),
        modules_to_save=list(head),
        fan_in_fan_out=_has_conv1d(model),
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


def adapter_tensors(model: "PeftModel") -> "dict[str, torch.Tensor]":
    """Name the tensors that `save_adapter` writes; works on the meta device."""
    import peft

    return peft.get_peft_model_state_dict(model, save_embedding_layers=False)


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
    tokenizer.chat_template = None  # several would be a folder of files that no classifier needs
    tokenizer.save_pretrained(folder)
    text = json.dumps(list(labels), ensure_ascii=False)
    (folder / LABELS_FILE).write_text(text + "\n", encoding="utf-8")
    weights = folder / WEIGHTS_FILE
    weights.chmod((folder / CONFIG_FILE).stat().st_mode)  # safetensors leaves it to its owner alone
    return weights.stat().st_size


def load_adapter_weights(model: "PreTrainedModel", folder: Path) -> "PeftModel":
    """Put a saved adapter and its head onto its base model, for inference.

    Raises:
        ArtifactError: the weights do not fit this base model.
    """
    import peft
    from safetensors import SafetensorError, safe_open

    path = folder / WEIGHTS_FILE
    try:
        adapted = peft.PeftModel.from_pretrained(model, folder, config=_read_config(model, folder))
        with safe_open(path, framework="pt") as file:
            found = set(file.keys())
    except KeyError as error:
        raise ArtifactError(f"{path}: the adapter lacks the tensor {error.args[0]}") from None
    except (SafetensorError, RuntimeError, ValueError, OSError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        told = next((line for line in lines if line.startswith("size mismatch")), first_line(error))
        raise ArtifactError(f"{path}: does not fit its base: {told}") from None
    expected = set(adapter_tensors(adapted))
    if found != expected:
        tensor = min(expected ^ found)
        what = "lacks" if tensor in expected else "has no place for"
        raise ArtifactError(f"{path}: the adapter {what} the tensor {tensor}")
    return adapted.eval()


def combine_adapters(
    model: "PreTrainedModel",
    folders: Sequence[Path],
    *,
    weights: Sequence[float],
    combination: str,
    density: float,
) -> "PeftModel":
    """Put several adapters of one base together into one, for inference.

    `linear` adds up their changes of each weight, exactly; `ties`, `dare_linear` and `dare_ties`
    work on the factors A and B. Heads are averaged by the weights.

    Source: PEFT, LoraModel.add_weighted_adapter; TIES: Yadav et al. 2023, arXiv 2306.01708; DARE:
    Yu et al. 2023, arXiv 2311.03099.

    Args:
        combination: one of COMBINATIONS.
        density: the share of values that TIES and DARE keep, above 0 and at most 1.

    Raises:
        ArtifactError: PEFT cannot combine them so.
    """
    import peft
    from peft.utils import ModulesToSaveWrapper

    names = [f"adapter_{number}" for number in range(len(folders))]
    config = _read_config(model, folders[0])
    adapted = peft.PeftModel.from_pretrained(model, folders[0], names[0], config=config)
    for name, folder in zip(names[1:], folders[1:], strict=True):
        adapted.load_adapter(folder, name, config=_read_config(model, folder))
    for wrapper in adapted.modules():
        if isinstance(wrapper, ModulesToSaveWrapper):
            _average_heads(wrapper, names, weights)
    try:
        adapted.add_weighted_adapter(
            names,
            list(weights),
            "combined",
            # PEFT's own `linear` adds up A and B apart, so that their product is no sum.
            combination_type="cat" if combination == "linear" else combination,
            density=density,
        )
    except ValueError as error:
        raise ArtifactError(f"--combine {combination}: {first_line(error)}") from None
    for wrapper in adapted.modules():
        if isinstance(wrapper, ModulesToSaveWrapper):
            wrapper.modules_to_save["combined"] = wrapper.modules_to_save[names[0]]
    adapted.set_adapter("combined")
    return adapted.eval()


def merge_adapter(adapted: "PeftModel") -> "PreTrainedModel":
    """Add an adapter's changes to its base's weights; a plain model is left.

    Raises:
        ArtifactError: a merged weight is NaN or infinite.
    """
    try:
        return adapted.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise ArtifactError(first_line(error)) from None


def detach_adapter(adapted: "PeftModel") -> "PreTrainedModel":
    """Take an adapter off its base again."""
    return adapted.unload()


def _average_heads(
    wrapper: "torch.nn.Module", names: Sequence[str], weights: Sequence[float]
) -> None:
    """Leave the first adapter's copy of a head's module, with the weighted mean of all."""
    import torch

    heads = wrapper.modules_to_save
    with torch.no_grad():
        for parts in zip(*(heads[name].parameters() for name in names), strict=True):
            mean = sum(w * part for w, part in zip(weights, parts, strict=True)) / sum(weights)
            parts[0].copy_(mean)
    for name in names[1:]:
        del heads[name]


def _read_config(model: "PreTrainedModel", folder: Path) -> "PeftConfig":
    """Read an adapter's configuration, for a base that may have been quantised or be so no more."""
    import peft

    kind = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")).get("peft_type")
    if kind != "LORA":
        raise ArtifactError(f"{folder / CONFIG_FILE}: found {kind!r} as peft_type, expected LORA")
    config = peft.PeftConfig.from_pretrained(folder)
    config.fan_in_fan_out = _has_conv1d(model)
    config.inference_mode = True
    return config


def _has_conv1d(model: "PreTrainedModel") -> bool:
    """Whether layers keep their weights as (in, out), as GPT-2's do; quantised, they do not."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())


def _leaf(path: str) -> str:
    return path.rpartition(".")[2]


def _trainable(module: "torch.nn.Module") -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
