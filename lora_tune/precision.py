"""How a base's weights are held: in how many bits, in which type, and what that takes."""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_tune.errors import ModelError
from lora_tune.recipe import ModelConfig

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class WeightMemory:
    """What a base's weights take, its head among them."""

    float32_bytes: int  # as they would, all of them
    loaded_bytes: int  # as they are held, with all that quantised ones need to be read


def quantization_config(config: ModelConfig, *, skipped: Sequence[str]) -> Any:
    """Make transformers' configuration of a quantised base; None where it is not quantised.

    Args:
        skipped: paths of the modules that stay as they are.

    Raises:
        ModelError: bitsandbytes is not installed.
    """
    if config.quantization is None:
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            f"model.quantization: {config.quantization} needs bitsandbytes: "
            "pip install 'lora-tune[quantization]'"
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(**quantization_options(config, skipped=skipped))


def quantization_options(config: ModelConfig, *, skipped: Sequence[str]) -> dict[str, Any]:
    """Name what transformers.BitsAndBytesConfig is to be given; see `quantization_config`.

    Source: Dettmers et al. 2022, arXiv 2208.07339 (LLM.int8); Dettmers et al. 2023, arXiv
    2305.14314, section 3 (NF4, double quantisation).
    """
    if config.quantization == "8bit":
        return {"load_in_8bit": True, "llm_int8_skip_modules": list(skipped)}
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": config.double_quantization,
        "bnb_4bit_compute_dtype": config.dtype,
        "llm_int8_skip_modules": list(skipped),
    }


def fix_precision(model: "PreTrainedModel", config: ModelConfig, head: Sequence[str]) -> None:
    """See to it that a loaded base computes with the same weights everywhere, its head in float32.

    Args:
        head: names of the modules that are trained whole.
    """
    for module in model.modules():
        # Else bitsandbytes repacks and rounds 4-bit weights once more, at the first evaluation on
        # some processors, and training and other machines see other weights.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    if config.dtype == "float32":
        return
    for name in head:
        module = model.get_submodule(name).float()
        module.register_forward_pre_hook(_widen)  # PEFT's copy of the module keeps it


def _widen(_: "Module", inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Turn the hidden states that go into a head into its own type."""
    import torch

    is_state = [torch.is_tensor(value) and value.is_floating_point() for value in inputs]
    return tuple(v.float() if i else v for v, i in zip(inputs, is_state, strict=True))


def restore_weights(model: "PreTrainedModel", rounded: "PreTrainedModel") -> None:
    """Give a model in full precision the weights that a rounded copy of it computes with."""
    import torch
    from transformers.pytorch_utils import Conv1D

    with torch.no_grad():
        for path, module in rounded.named_modules():
            place = model.get_submodule(path)
            for name, parameter in module.named_parameters(recurse=False):
                weight = dequantize_layer(module) if is_quantized(parameter) else parameter
                # A quantised layer keeps its weights as (out, in), Conv1D the other way round.
                turned = is_quantized(parameter) and isinstance(place, Conv1D)
                place.get_parameter(name).copy_(weight.T if turned else weight)


def is_quantized(parameter: "Tensor") -> bool:
    """Whether bitsandbytes holds a parameter in 4 or 8 bits."""
    return type(parameter).__name__ in ("Params4bit", "Int8Params")


def dequantize_layer(layer: "Module") -> "Tensor":
    """The weights that a quantised layer computes with, (out, in)."""
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    return dequantize_bnb_weight(layer.weight, getattr(layer, "state", None))


def measure_weights(model: "PreTrainedModel") -> WeightMemory:
    """Count the bytes of a base that was just loaded."""
    full = held = 0
    for parameter in model.parameters():  # one that is shared comes once
        held += parameter.nbytes + sum(tensor.nbytes for tensor in _scales(parameter))
        state = getattr(parameter, "quant_state", None)  # 4 bits: two weights to a byte
        full += 4 * (parameter.numel() if state is None else state.shape.numel())
    return WeightMemory(full, held)


def _scales(holder: Any) -> "Iterator[Tensor]":
    """Yield what the bits of a parameter are read with: scales, and the scales of these."""
    import torch

    for name in ("SCB", "absmax", "code", "offset", "quant_state", "state2"):
        value = vars(holder).get(name)
        if torch.is_tensor(value):
            yield value
        elif value is not None:
            yield from _scales(value)
