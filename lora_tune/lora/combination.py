"""Combines several adapters of one base model into one, with PEFT."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lora_tune.errors import ArtifactError, first_line
from lora_tune.lora.adapter import PREFIX, read_config

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

COMBINED = "combined"  # PEFT's name of the resulting adapter


def combine_adapters(
    model: "PreTrainedModel",
    folders: Sequence[Path],
    *,
    weights: Sequence[float],
    combination: str,
    density: float,
) -> "PeftModel":
    """Combine several adapters of one base model into one, for inference.

    `linear` is the exact weighted sum of the adapters' weight changes B A; `ties`, `dare_linear`
    and `dare_ties` combine the factors A and B. The heads are averaged with the same weights.

    Source: PEFT, LoraModel.add_weighted_adapter; TIES: Yadav et al. 2023, arXiv 2306.01708; DARE:
    Yu et al. 2023, arXiv 2311.03099.

    Args:
        combination: one of COMBINATIONS.
        density: the proportion of values that TIES and DARE keep, above 0 and at most 1.

    Raises:
        ArtifactError: PEFT cannot combine these adapters in this way.
    """
    import peft
    from peft.utils import ModulesToSaveWrapper

    names = [f"adapter_{number}" for number in range(len(folders))]
    config = read_config(model, folders[0])
    for folder in folders:
        _check_can_be_combined(model, folder)
    adapted = peft.PeftModel.from_pretrained(model, folders[0], names[0], config=config)
    for name, folder in zip(names[1:], folders[1:], strict=True):
        adapted.load_adapter(folder, name, config=read_config(model, folder))
    for wrapper in adapted.modules():
        if isinstance(wrapper, ModulesToSaveWrapper):
            _average_heads(wrapper, names, weights=weights)
    try:
        adapted.add_weighted_adapter(
            names,
            list(weights),
            COMBINED,
            # PEFT's `linear` sums A and B separately, so the product is not the sum of products.
            combination_type="cat" if combination == "linear" else combination,
            density=density,
        )
    except ValueError as error:
        raise ArtifactError(f"--combine {combination}: {first_line(error)}") from None
    _fix_scaling(adapted, folders[0])
    for wrapper in adapted.modules():
        if isinstance(wrapper, ModulesToSaveWrapper):
            wrapper.modules_to_save[COMBINED] = wrapper.modules_to_save[names[0]]
    adapted.set_adapter(COMBINED)
    return adapted.eval()


def _check_can_be_combined(model: "PreTrainedModel", folder: Path) -> None:
    """Check that an adapter has nothing that PEFT would lose when it combines adapters.

    It drops DoRA's magnitudes, and keeps the biases of the last adapter only.
    """
    config = read_config(model, folder)
    for key, is_set in (("use_dora", config.use_dora), ("bias", config.bias != "none")):
        if is_set:
            raise ArtifactError(
                f"{folder}: was trained with lora.{key}, so it cannot be combined with other "
                "adapters; merge it alone"
            )


def _fix_scaling(adapted: "PeftModel", first: Path) -> None:
    """Set the scaling of the combined adapter to 1, since its factors are scaled already.

    With rsLoRA, PEFT's configuration would scale them once more.
    """
    from peft.tuners.lora import LoraLayer

    for path, layer in adapted.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        if COMBINED not in {**layer.lora_A, **layer.lora_embedding_A}:
            raise ArtifactError(
                f"{path.removeprefix(PREFIX)}: adapted by another adapter, but not by {first}; "
                "adapters with different target modules cannot be combined"
            )
        layer.scaling[COMBINED] = 1.0


def _average_heads(
    wrapper: "torch.nn.Module", names: Sequence[str], *, weights: Sequence[float]
) -> None:
    """Replace the first adapter's copy of a head module by the weighted mean of all copies."""
    import torch

    heads = wrapper.modules_to_save
    with torch.no_grad():
        for parameters in zip(*(heads[name].parameters() for name in names), strict=True):
            weighted = (w * p for w, p in zip(weights, parameters, strict=True))
            parameters[0].copy_(sum(weighted) / sum(weights))
    for name in names[1:]:
        del heads[name]
