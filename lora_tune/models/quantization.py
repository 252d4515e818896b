"""Quantizes a base model's weights, dequantizes them and measures their memory."""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_tune.config.model import ModelConfig
from lora_tune.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class WeightMemory:
    """The memory of a base model's weights, head included."""

    float32_bytes: int  # if all weights were in float32
    loaded_bytes: int  # as loaded, with the scales of the quantized weights


def quantization_config(config: ModelConfig, *, skipped: Sequence[str]) -> Any:
    """Make the BitsAndBytesConfig of a base model; None if the recipe does not quantize it.

    Args:
        skipped: paths of the modules that are not quantized.

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
    """Give the arguments of transformers.BitsAndBytesConfig; see `quantization_config`.

    Source: Dettmers et al. 2022, arXiv 2208.07339 (LLM.int8); Dettmers et al. 2023, arXiv
    2305.14314, section 3 (NF4, double quantization).
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


def fix_weight_precision(
    model: "PreTrainedModel", config: ModelConfig, *, head: Sequence[str]
) -> None:
    """Make a loaded base model compute with the same weights everywhere, its head in float32.

    Args:
        head: names of the modules that are trained in full.
    """
    for module in model.modules():
        # On CPUs with AVX512-BF16, bitsandbytes would repack the 4-bit weights at the first
        # evaluation and round them again: training and other machines would use other weights.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    if config.dtype == "float32":
        return
    for name in head:
        module = model.get_submodule(name).float()
        module.register_forward_pre_hook(_cast_to_float32)  # PEFT's copy of the module keeps it


def _cast_to_float32(_: "Module", inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Cast a head's floating-point inputs to float32, the type of its weights."""
    import torch

    is_state = [torch.is_tensor(value) and value.is_floating_point() for value in inputs]
    return tuple(v.float() if i else v for v, i in zip(inputs, is_state, strict=True))


def restore_weights(model: "PreTrainedModel", rounded: "PreTrainedModel") -> None:
    """Copy the weights that a quantized or rounded model computes with into a float32 model.

    Args:
        model: the same base model in full precision; changed in place.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    with torch.no_grad():
        for path, module in rounded.named_modules():
            target = model.get_submodule(path)
            for name, parameter in module.named_parameters(recurse=False):
                weight = dequantize_layer(module) if is_quantized(parameter) else parameter
                # A quantized weight is (out, in), a Conv1D's is (in, out).
                is_transposed = is_quantized(parameter) and isinstance(target, Conv1D)
                target.get_parameter(name).copy_(weight.T if is_transposed else weight)


def is_quantized(parameter: "Tensor") -> bool:
    """Whether bitsandbytes stores a parameter in 4 or 8 bits."""
    return type(parameter).__name__ in ("Params4bit", "Int8Params")


def dequantize_layer(layer: "Module") -> "Tensor":
    """Compute the weight that a quantized layer multiplies by, (out, in)."""
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    return dequantize_bnb_weight(layer.weight, getattr(layer, "state", None))


def measure_weight_memory(model: "PreTrainedModel") -> WeightMemory:
    """Count the bytes of a loaded base model's weights."""
    float32_bytes = loaded_bytes = 0
    for parameter in model.parameters():  # a shared parameter is yielded once
        scale_bytes = sum(tensor.nbytes for tensor in _quantization_tensors(parameter))
        loaded_bytes += parameter.nbytes + scale_bytes
        state = getattr(parameter, "quant_state", None)  # of 4-bit weights, two in each byte
        float32_bytes += 4 * (parameter.numel() if state is None else state.shape.numel())
    return WeightMemory(float32_bytes, loaded_bytes)


def _quantization_tensors(holder: Any) -> "Iterator[Tensor]":
    """Yield the tensors that dequantize a parameter: scales, and the scales of these."""
    import torch

    for name in ("SCB", "absmax", "code", "offset", "quant_state", "state2"):
        value = vars(holder).get(name)
        if torch.is_tensor(value):
            yield value
        elif value is not None:
            yield from _quantization_tensors(value)


@contextmanager
def quantizable_layers(model_type: str) -> Iterator[None]:
    """Build models with torch's own linear layers while a block runs, so that all are quantized.

    transformers quantizes layers of exactly the class torch.nn.Linear and leaves subclasses in full
    precision without a message. Falcon has such a subclass, whose forward computes the same.

    This replaces a class of transformers while a model is loaded. It is not one of the patches in
    `fast/`: those are optional and last as long as a training, and without this one a Falcon
    model cannot be quantized at all.

    Args:
        model_type: from the base model's configuration.
    """
    if model_type != "falcon":
        yield
        return
    from torch.nn import Linear
    from transformers.models.falcon import modeling_falcon

    original = modeling_falcon.FalconLinear
    modeling_falcon.FalconLinear = Linear
    try:
        yield
    finally:
        modeling_falcon.FalconLinear = original


def check_quantized(model: "PreTrainedModel", name: str) -> None:
    """Check that loading has quantized at least one layer.

    Args:
        name: of the base model, for the message.

    Raises:
        ModelError: no layer is quantized.
    """
    if not any(type(module).__module__.startswith("bitsandbytes") for module in model.modules()):
        raise ModelError(
            f"model.quantization: {name} has no layers that can be quantized; set "
            "model.quantization=null"
        )
