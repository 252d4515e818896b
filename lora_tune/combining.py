"""Several adapters of one base put together into one, with PEFT."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lora_tune.adapter import PREFIX, read_config
from lora_tune.errors import ArtifactError, first_line

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel


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
    from peft.tuners.lora import LoraLayer
    from peft.utils import ModulesToSaveWrapper

    names = [f"adapter_{number}" for number in range(len(folders))]
    config = read_config(model, folders[0])
    for folder in folders:
        told = read_config(model, folder)
        for key, fault in (("use_dora", told.use_dora), ("bias", told.bias != "none")):
            if fault:  # PEFT would drop the magnitudes, and keep the biases of the last alone
                raise ArtifactError(
                    f"{folder}: has lora.{key}, so it cannot be combined; merge it alone"
                )
    adapted = peft.PeftModel.from_pretrained(model, folders[0], names[0], config=config)
    for name, folder in zip(names[1:], folders[1:], strict=True):
        adapted.load_adapter(folder, name, config=read_config(model, folder))
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
    for path, layer in adapted.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        if "combined" not in {**layer.lora_A, **layer.lora_embedding_A}:
            raise ArtifactError(
                f"{path.removeprefix(PREFIX)}: not adapted by {folders[0]}, but by another; they "
                "cannot be combined"
            )
        # It stands in the factors already; rsLoRA's config would scale them once more.
        layer.scaling["combined"] = 1.0
    for wrapper in adapted.modules():
        if isinstance(wrapper, ModulesToSaveWrapper):
            wrapper.modules_to_save["combined"] = wrapper.modules_to_save[names[0]]
    adapted.set_adapter("combined")
    return adapted.eval()


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
