"""The LoRA adapter: attached, counted, saved and loaded, with PEFT."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora_tune.base import Base
from lora_tune.errors import ArtifactError, first_line
from lora_tune.lora import LoraConfig
from lora_tune.manifest import CONFIG_FILE, LABELS_FILE, WEIGHTS_FILE
from lora_tune.targets import find_saved, is_within
from lora_tune.tasks import Task
from lora_tune.tasks.writing_task import WritingTask

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig, PeftModel
    from peft.tuners.lora import LoraLayer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PREFIX = "base_model.model."  # of every path in a PeftModel


@dataclass(frozen=True)
class AdaptedModules:
    """The modules of one name that an adapter changes, or that it replaces."""

    name: str
    kind: str  # adapter, bias (of the base), whole (lora.modules_to_save) or head
    layers: int  # modules of that name
    parameters: int  # trained


def attach_adapter(
    model: "PreTrainedModel",
    lora: LoraConfig,
    *,
    targets: Sequence[str],
    head: Sequence[str],
    task: Task,
) -> "PeftModel":
    """Freeze a model, put LoRA beside its target modules, keep its head trainable; seed before.

    Source: Hu et al. 2021, arXiv 2106.09685, section 4.1.
    """
    import peft

    saved = find_saved([path for path, _ in model.named_modules()], lora)
    tied = _find_tied(model, saved)
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
        # A pooler that is fresh may lie within a module that is saved whole.
        modules_to_save=[h for h in head if not any(is_within(h, s) for s in saved)] + saved + tied,
        ensure_weight_tying=bool(tied),
        fan_in_fan_out=_has_conv1d(model),
    )
    # EVA and LoftQ want more than the model: `start_adapter` sees to them. PEFT warns of PiSSA with
    # patterns when asked at once: it could not take it out again; `settle_adapter` can.
    start = lora.init_lora_weights
    config.init_lora_weights = True if start in ("default", "eva", "loftq") else start
    adapted = peft.get_peft_model(model, config)
    # Else whoever loads the adapter would begin anew, which changes the base's weights for some.
    config.init_lora_weights = True
    return adapted


def count_parameters(model: "PeftModel") -> tuple[int, int]:
    """Count the trainable parameters, and those of trunk, head and adapter together."""
    trainable, everything = model.get_nb_trainable_parameters()
    # PEFT keeps the head's first values beside the trained ones; they are no part of the model.
    spare = sum(p.numel() for name, p in model.named_parameters() if ".original_module." in name)
    return trainable, everything - spare


def describe_adapter(model: "PeftModel", head: Sequence[str]) -> list[AdaptedModules]:
    """List what is trained by module name: adapted modules first, the head's last.

    Args:
        head: names of the head's modules; see `load_model`.
    """
    from peft.utils import ModulesToSaveWrapper

    kinds: dict[str, dict[str, dict[str, int]]] = {
        kind: {} for kind in ("adapter", "bias", "whole", "head")
    }
    whole = [path for path, m in model.named_modules() if isinstance(m, ModulesToSaveWrapper)]
    for path, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        within = next((w for w in whole if is_within(path, w)), None)
        if within is not None:
            name = module = within.removeprefix(PREFIX)
            kind = "head" if name in head else "whole"
            name = name if kind == "head" else _leaf(name)
        else:
            kind = "adapter" if ".lora_" in path else "bias"
            module = path.partition(".lora_")[0].removesuffix(".base_layer.bias")
            module = module.removesuffix(".bias")
            name = _leaf(module)
        counts = kinds[kind].setdefault(name, {})
        counts[module] = counts.get(module, 0) + parameter.numel()
    return [
        AdaptedModules(name, kind, len(counts), sum(counts.values()))
        for kind, names in kinds.items()
        for name, counts in sorted(names.items())
    ]


def adapted_layers(model: "PeftModel") -> "Iterator[tuple[str, LoraLayer]]":
    """Yield the path, in the base, and the layer of each module with an A and a B."""
    for path, module in model.named_modules():
        if "default" in getattr(module, "lora_A", ()):
            yield path.removeprefix(PREFIX), module


def factor_b(model: "PeftModel") -> "list[torch.nn.Parameter]":
    """List the trained B of every adapted layer."""
    return [layer.lora_B["default"].weight for _, layer in adapted_layers(model)]


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
    task: Task,
) -> int:
    """Write a PEFT directory with head, tokenizer and label names.

    Returns:
        The bytes of the weights file.
    """
    config = model.peft_config["default"]
    config.base_model_name_or_path, config.revision = base.name, base.revision
    # Sets have no order of their own; a list keeps the file the same from run to run.
    config.target_modules = sorted(config.target_modules)
    # PEFT keeps what is tied apart, but wants it named again to tie it when it loads the adapter.
    tied = getattr(config, "modules_to_tie", None) or ()
    config.modules_to_save = sorted({*config.modules_to_save, *tied})
    # Embeddings that are not trained stay out, resized or not: a new pad token's row is never
    # attended to.
    model.save_pretrained(folder, save_embedding_layers=False)
    if not isinstance(task, WritingTask) or not isinstance(tokenizer.chat_template, str):
        tokenizer.chat_template = None  # several would be a folder of files
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
        adapted = peft.PeftModel.from_pretrained(model, folder, config=read_config(model, folder))
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


def read_config(model: "PreTrainedModel", folder: Path) -> "PeftConfig":
    """Read an adapter's configuration, for a base that may have been quantised or be so no more."""
    import peft

    kind = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")).get("peft_type")
    if kind != "LORA":
        raise ArtifactError(f"{folder / CONFIG_FILE}: found {kind!r} as peft_type, expected LORA")
    config = peft.PeftConfig.from_pretrained(folder)
    config.fan_in_fan_out = _has_conv1d(model)
    config.inference_mode = True
    return config


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


def _find_tied(model: "PreTrainedModel", saved: Sequence[str]) -> list[str]:
    """Find the output layer that shares its weights with embeddings that are trained whole."""
    inner, outer = model.get_input_embeddings(), model.get_output_embeddings()
    if outer is None or outer.weight is not inner.weight:
        return []
    paths = {module: path for path, module in model.named_modules()}
    return [paths[outer]] if paths[inner] in saved else []


def _has_conv1d(model: "PreTrainedModel") -> bool:
    """Whether layers keep their weights as (in, out), as GPT-2's do; quantised, they do not."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())


def _leaf(path: str) -> str:
    return path.rpartition(".")[2]
