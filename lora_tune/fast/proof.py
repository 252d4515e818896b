"""Where something may stand in for layers, and two rows on which it proves to change nothing."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from lora_tune.batching import model_inputs
from lora_tune.data import Data

MOST_ROUNDING = 0.02  # of what is made in 16 bits, relative
CHECKPOINTING = ("activation_checkpointing", "gradient_checkpointing")


def runs_alone(arguments: TrainingArguments) -> bool:
    """Whether a model runs in one process, on one device, and as it is written."""
    return arguments.world_size == 1 and arguments.n_gpu <= 1 and not arguments.torch_compile


def runs_layers_plainly(arguments: TrainingArguments) -> bool:
    """Whether, besides, its layers run once in a forward."""
    return runs_alone(arguments) and not any(
        getattr(arguments, name, False) for name in CHECKPOINTING
    )


def make_proof_rows(data: Data) -> list[dict[str, Any]]:
    """Choose half of the shortest training row and the longest, so that there is padding."""
    lengths = data.train.encoded["length"]
    ends = [int(np.argmin(lengths)), int(np.argmax(lengths))]
    encoded = data.train.encoded[ends]
    rows = model_inputs({name: encoded[name] for name in encoded if name != "labels"})
    half = max(1, min(lengths) // 2)  # the shorter is to be padded, whatever the rows are
    rows[0] = {name: tokens[:half] for name, tokens in rows[0].items()}
    return rows


def collate_rows(rows: list[dict[str, Any]], collate: Callable[..., Any], model: nn.Module) -> Any:
    """Pad rows to a batch where the model is, without labels."""
    inputs = collate(rows).to(next(model.parameters()).device)
    inputs.pop("labels", None)
    return inputs


def is_near(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Whether two results agree in the first half of the digits of the type they were made in.

    Zeros prove nothing.
    """
    exactness = min(torch.finfo(dtype).eps ** 0.5, MOST_ROUNDING)
    found, expected = found.double(), expected.double()  # a norm of float16 soon overflows
    return bool((found - expected).norm() < exactness * expected.norm())
