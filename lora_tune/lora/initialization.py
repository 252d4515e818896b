"""Initializes the adapter by EVA or LoftQ, and undoes changes of base weights, with PEFT."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.config.lora import LoraConfig
from lora_tune.data.batching import model_inputs
from lora_tune.errors import RecipeError
from lora_tune.lora.adapter import PREFIX, adapted_layers
from lora_tune.models.quantization import dequantize_layer

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from peft import PeftModel
    from transformers import PreTrainedModel

MAX_EVA_BATCHES = 1000  # until EVA's directions have to converge; tens usually suffice
ROWS_PER_RANK = 2  # in a batch of EVA, whose SVD computes twice as many directions as it keeps


@dataclass(frozen=True)
class InitialFactors:
    """The initial values of an adapter."""

    factors: "Mapping[str, torch.Tensor]"  # LoRA's parameters, by name


@dataclass(frozen=True)
class TrainingRows:
    """The training rows that an initialization may use."""

    encoded: "Dataset"
    collate: Callable[..., Any]
    seed: int


def check_row_count(lora: LoraConfig, rows: int) -> None:
    """Check that there are enough training rows for the initialization.

    Raises:
        RecipeError: there are too few.
    """
    needed = ROWS_PER_RANK * max([lora.rank, *lora.rank_pattern.values()])
    if lora.init_lora_weights == "eva" and rows < needed:
        raise RecipeError(
            f"lora.init_lora_weights: eva needs {ROWS_PER_RANK} training rows for each rank, "
            f"{needed} in all, found {rows}; use a lower rank"
        )


def initialize_adapter(
    model: "PeftModel",
    lora: LoraConfig,
    *,
    rows: TrainingRows,
    load_full: "Callable[[], PreTrainedModel]",
) -> InitialFactors:
    """Initialize A and B as `lora.init_lora_weights` says, if PEFT has not done it already.

    Args:
        rows: training rows for EVA, enough by `check_row_count`.
        load_full: loads the base model in full precision, for LoftQ.

    Returns:
        The initial values, for `is_unchanged` and `restore_base_weights`.

    Raises:
        RecipeError: EVA's directions do not converge.
    """
    if lora.init_lora_weights == "eva":
        initialize_eva(model, rows)
    elif lora.init_lora_weights == "loftq":
        initialize_loftq(model, load_full())
    return record_initial_factors(model)


def record_initial_factors(model: "PeftModel") -> InitialFactors:
    """Copy the current values of LoRA's parameters."""
    named = model.named_parameters()
    return InitialFactors({name: p.detach().clone() for name, p in named if ".lora_" in name})


def is_unchanged(model: "PeftModel", initial: InitialFactors) -> bool:
    """Whether training left every B, and every other parameter of LoRA but A, at its initial value.

    A does not count, since weight decay alone changes it.
    """
    import torch

    current = dict(model.named_parameters())
    return all(
        torch.equal(current[name], tensor)
        for name, tensor in initial.factors.items()
        if ".lora_A." not in name
    )


def restore_base_weights(model: "PeftModel", lora: LoraConfig, *, initial: InitialFactors) -> None:
    """Restore the base weights after an initialization that subtracted s B0 A0 from them.

    The adapter's change becomes s B A - s B0 A0 = s [B, -B0] [A; A0]: plain LoRA of twice the rank,
    which fits the published base model.

    Source: PEFT, `LoraModel.subtract_mutated_init`, which loses head, biases and magnitudes.
    """
    import torch

    if not lora.changes_base:
        return
    alpha_factor = 2**0.5 if lora.use_rslora else 2  # keeps the scaling s at twice the rank
    with torch.no_grad():
        for path, layer in adapted_layers(model):
            a, b = layer.lora_A["default"], layer.lora_B["default"]
            initial_a, initial_b = (
                initial.factors[f"{PREFIX}{path}.lora_{x}.default.weight"] for x in "AB"
            )
            subtracted = layer.scaling["default"] * initial_b @ initial_a  # (out, in)
            layer.get_base_layer().weight.add_(subtracted.T if layer.fan_in_fan_out else subtracted)
            a.weight = torch.nn.Parameter(torch.cat([a.weight, initial_a]))
            b.weight = torch.nn.Parameter(torch.cat([b.weight, -initial_b], dim=1))
            a.out_features = b.in_features = 2 * layer.r["default"]
            layer.r["default"] *= 2
            layer.lora_alpha["default"] *= alpha_factor
    config = model.peft_config["default"]
    config.r, config.lora_alpha = 2 * config.r, alpha_factor * config.lora_alpha
    config.rank_pattern = {p: 2 * rank for p, rank in config.rank_pattern.items()}
    config.alpha_pattern = {p: alpha_factor * alpha for p, alpha in config.alpha_pattern.items()}


def initialize_eva(model: "PeftModel", rows: TrainingRows) -> None:
    """Initialize each A with the directions in which the layer's inputs vary most (EVA)."""
    import torch

    rank = max(layer.r["default"] for _, layer in adapted_layers(model))
    batches = _EvaBatches(rows, ROWS_PER_RANK * rank)
    directions = find_directions(model, batches, rank=rank)
    with torch.no_grad():
        for path, layer in adapted_layers(model):
            a = layer.lora_A["default"].weight
            a.copy_(directions[path][: len(a)])


def find_directions(
    model: "PeftModel", batches: "_EvaBatches", *, rank: int
) -> "dict[str, torch.Tensor]":
    """Find the directions in which the inputs of each adapted layer vary most.

    Source: Paischer et al. 2024, arXiv 2410.07170, section 3, without redistribution of ranks
    (rho = 1), so that the recipe determines the number of parameters.

    Args:
        batches: inputs of the model, repeated until the directions converge.

    Returns:
        For each layer's path in the base model, (rank, in): unit vectors, the one with the most
        variance first.

    Raises:
        RecipeError: the directions do not converge.
    """
    import peft
    from peft.tuners.lora.eva import get_eva_state_dict

    def read_mask(inputs: Any, _: Any) -> Any:
        return inputs["attention_mask"].bool()  # (rows, tokens)

    def read_inputs(layer_inputs: Any, mask: Any, _: str) -> Any:
        (states, *_) = layer_inputs  # (rows, tokens, in), or (rows, in) after pooling
        if states.ndim == 3 and states.shape[:2] == mask.shape:
            return states[mask]
        return states.reshape(-1, states.shape[-1]).contiguous()  # PEFT hashes contiguous tensors

    config = peft.LoraConfig(r=rank, init_lora_weights="eva", eva_config=peft.EvaConfig(rho=1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about biases, which are still unchanged
        found = get_eva_state_dict(
            model,
            batches,
            config,
            prepare_model_inputs_fn=read_mask,
            prepare_layer_inputs_fn=read_inputs,
            show_progress_bar=False,
        )
    return {path.removeprefix(PREFIX): directions for path, directions in found.items()}


def initialize_loftq(model: "PeftModel", full: "PreTrainedModel") -> None:
    """Initialize s B A as the best low-rank approximation of the quantization error (LoftQ).

    Source: Li et al. 2023, arXiv 2310.08659, section 3, with a single quantization, as everyone who
    loads the base model gets it. PEFT's `replace_lora_weights_loftq` ignores the scaling s.

    Args:
        full: the base model in full precision.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    with torch.no_grad():
        for path, layer in adapted_layers(model):
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            original = full.get_submodule(path)
            weight = original.weight.T if isinstance(original, Conv1D) else original.weight
            quantized = dequantize_layer(layer.get_base_layer()).float()  # (out, in)
            u, s, v = torch.linalg.svd(weight.to(quantized) - quantized, full_matrices=False)
            root = (s[: len(a)] / layer.scaling["default"]).sqrt()
            a.copy_(root[:, None] * v[: len(a)])
            b.copy_(u[:, : len(a)] * root)
            if "default" in layer.lora_magnitude_vector:  # DoRA's magnitudes: norms of W + s B A
                layer.lora_variant["default"].init(
                    layer, adapter_name="default", config=model.peft_config["default"]
                )


class _EvaBatches:
    """Full batches of training rows in random order, repeated up to a limit."""

    def __init__(self, rows: TrainingRows, size: int) -> None:
        self.rows = rows
        self.size = size

    def __len__(self) -> int:
        """Count the batches of one pass over the rows."""
        return len(self.rows.encoded) // self.size

    def __iter__(self) -> Iterator[Any]:
        random = np.random.default_rng(self.rows.seed)
        remaining = MAX_EVA_BATCHES
        while True:
            order = random.permutation(len(self.rows.encoded))
            for number in range(len(self)):
                if not remaining:
                    raise RecipeError(
                        "lora.init_lora_weights: eva's directions do not converge in "
                        f"{MAX_EVA_BATCHES} batches; use a lower rank, or another initialization"
                    )
                remaining -= 1
                yield self._collate(order[number * self.size : (number + 1) * self.size])

    def _collate(self, rows: np.ndarray) -> Any:
        """Collate the inputs of a batch.

        Args:
            rows: their numbers in the training split.
        """
        inputs = self.rows.collate(model_inputs(self.rows.encoded[rows.tolist()]))
        inputs.pop("labels", None)
        return inputs
