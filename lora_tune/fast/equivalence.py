"""Checks on two training rows that a speed-up leaves a model's results as they are."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from lora_tune.data.batching import model_inputs
from lora_tune.data.splits import Data

MAX_RELATIVE_ERROR = 0.02  # of results in 16 bits
CHECKPOINTING = ("activation_checkpointing", "gradient_checkpointing")


def runs_on_one_device(arguments: TrainingArguments) -> bool:
    """Whether the model runs in one process, on one device and without torch.compile."""
    return arguments.world_size == 1 and arguments.n_gpu <= 1 and not arguments.torch_compile


def runs_layers_once(arguments: TrainingArguments) -> bool:
    """Whether the model also runs each layer once in a step, without checkpointing."""
    return runs_on_one_device(arguments) and not any(
        getattr(arguments, name, False) for name in CHECKPOINTING
    )


def make_proof_rows(data: Data) -> list[dict[str, Any]]:
    """Choose the longest training row and the first half of the shortest, so that one is padded."""
    lengths = data.train.encoded["length"][:]
    ends = [int(np.argmin(lengths)), int(np.argmax(lengths))]
    encoded = data.train.encoded[ends]
    rows = model_inputs({name: encoded[name] for name in encoded if name != "labels"})
    half = max(1, min(lengths) // 2)  # shorter than the other row even if all rows are equally long
    rows[0] = {name: tokens[:half] for name, tokens in rows[0].items()}
    return rows


def collate_rows(
    rows: list[dict[str, Any]], collate: Callable[..., Any], *, model: nn.Module
) -> Any:
    """Collate rows to a batch without labels, on the model's device."""
    inputs = collate(rows).to(next(model.parameters()).device)
    inputs.pop("labels", None)
    return inputs


def is_close(found: Tensor, expected: Tensor, *, dtype: torch.dtype) -> bool:
    """Whether two results agree in the first half of the digits of a type.

    Two results that are zero do not count as close: they would not show a difference.

    Args:
        dtype: the type that they were computed in.
    """
    tolerance = min(torch.finfo(dtype).eps ** 0.5, MAX_RELATIVE_ERROR)
    found, expected = found.double(), expected.double()  # a norm in float16 easily overflows
    return bool((found - expected).norm() < tolerance * expected.norm())
