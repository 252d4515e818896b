"""How an adapter begins where a random A and a zero B are not what is asked for, with PEFT."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.adapter import PREFIX, adapted_layers
from lora_tune.batching import model_inputs
from lora_tune.errors import RecipeError
from lora_tune.lora import LoraConfig
from lora_tune.precision import dequantize_layer

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from peft import PeftModel
    from transformers import PreTrainedModel

MOST_BATCHES = 1000  # that EVA is given until its directions stay; tens do
ROWS_PER_RANK = 2  # in a batch: its SVD takes twice as many directions as are kept


@dataclass(frozen=True)
class Start:
    """An adapter as it began."""

    factors: "Mapping[str, torch.Tensor]"  # what PEFT trains beside the base, by name


@dataclass(frozen=True)
class TrainingRows:
    """Training rows to look at before training."""

    encoded: "Dataset"
    collate: Callable[..., Any]
    seed: int


def check_rows(lora: LoraConfig, rows: int) -> None:
    """Check that there are training rows enough for an adapter to begin as it is to.

    Raises:
        RecipeError: there are too few.
    """
    needed = ROWS_PER_RANK * max([lora.rank, *lora.rank_pattern.values()])
    if lora.init_lora_weights == "eva" and rows < needed:
        raise RecipeError(
            f"lora.init_lora_weights: eva needs {ROWS_PER_RANK} training rows for each rank, "
            f"{needed} in all, found {rows}; use a lower rank"
        )


def start_adapter(
    model: "PeftModel",
    lora: LoraConfig,
    *,
    rows: TrainingRows,
    load_full: "Callable[[], PreTrainedModel]",
) -> Start:
    """Give A and B the values that `lora.init_lora_weights` asks for, where PEFT has not yet.

    Args:
        rows: that EVA looks at; none of test or validation, and enough by `check_rows`.
        load_full: loads the base in full precision, for LoftQ.

    Raises:
        RecipeError: EVA's directions do not stay.
    """
    if lora.init_lora_weights == "eva":
        point_at_rows(model, rows)
    elif lora.init_lora_weights == "loftq":
        make_up_for_rounding(model, load_full())
    return remember_start(model)


def remember_start(model: "PeftModel") -> Start:
    """Keep what PEFT trains beside the base, as it is now."""
    named = model.named_parameters()
    return Start({name: p.detach().clone() for name, p in named if ".lora_" in name})


def is_untouched(model: "PeftModel", start: Start) -> bool:
    """Whether training changed nothing: no B, nor what stands in its place, has moved.

    A is not asked, since weight decay alone moves it.
    """
    import torch

    now = dict(model.named_parameters())
    return all(
        torch.equal(now[name], tensor)
        for name, tensor in start.factors.items()
        if ".lora_A." not in name
    )


def settle_adapter(model: "PeftModel", lora: LoraConfig, start: Start) -> None:
    """Give the base its own weights back where the adapter began as a part of them.

    What was taken out, s B0 A0, goes back into the base, and out of the adapter: s B A - s B0 A0 is
    s [B, -B0] [A; A0], a plain LoRA of twice the rank, which fits the base as everyone has it.

    Source: PEFT, `LoraModel.subtract_mutated_init`, which loses head, biases and magnitudes.
    """
    import torch

    if not lora.changes_base:
        return
    with torch.no_grad():
        for path, layer in adapted_layers(model):
            a, b = layer.lora_A["default"], layer.lora_B["default"]
            first_a, first_b = (
                start.factors[f"{PREFIX}{path}.lora_{x}.default.weight"] for x in "AB"
            )
            taken = layer.scaling["default"] * first_b @ first_a  # (out, in)
            layer.get_base_layer().weight.add_(taken.T if layer.fan_in_fan_out else taken)
            a.weight = torch.nn.Parameter(torch.cat([a.weight, first_a]))
            b.weight = torch.nn.Parameter(torch.cat([b.weight, -first_b], dim=1))
            a.out_features = b.in_features = 2 * layer.r["default"]
            layer.r["default"] *= 2
            layer.lora_alpha["default"] *= 2**0.5 if lora.use_rslora else 2
    config = model.peft_config["default"]
    growth = 2**0.5 if lora.use_rslora else 2  # of alpha, so that the scale stays
    config.r, config.lora_alpha = 2 * config.r, growth * config.lora_alpha
    config.rank_pattern = {p: 2 * rank for p, rank in config.rank_pattern.items()}
    config.alpha_pattern = {p: growth * alpha for p, alpha in config.alpha_pattern.items()}


def point_at_rows(model: "PeftModel", rows: TrainingRows) -> None:
    """Begin each A with the directions along which the layer's inputs vary most (EVA)."""
    import torch

    rank = max(layer.r["default"] for _, layer in adapted_layers(model))
    batches = _Batches(rows, ROWS_PER_RANK * rank)
    directions = find_directions(model, batches, rank=rank)
    with torch.no_grad():
        for path, layer in adapted_layers(model):
            a = layer.lora_A["default"].weight
            a.copy_(directions[path][: len(a)])


def find_directions(
    model: "PeftModel", batches: "_Batches", *, rank: int
) -> "dict[str, torch.Tensor]":
    """Find along which directions the inputs of each adapted layer vary most.

    Source: Paischer et al. 2024, arXiv 2410.07170, section 3, without moving rank between layers
    (rho = 1), so that a recipe says how many parameters it trains.

    Args:
        batches: inputs of the model; taken again and again until the directions stay.

    Returns:
        Path of the layer, in the base -> (rank, in), rows of length 1, the strongest first.
    """
    import peft
    from peft.tuners.lora.eva import get_eva_state_dict

    def read_mask(inputs: Any, _: Any) -> Any:
        return inputs["attention_mask"].bool()  # (rows, tokens)

    def read_inputs(layer_inputs: Any, mask: Any, _: str) -> Any:
        (states, *_) = layer_inputs  # (rows, tokens, in), or (rows, in) where it is pooled
        if states.ndim == 3 and states.shape[:2] == mask.shape:
            return states[mask]
        return states.reshape(-1, states.shape[-1]).contiguous()  # else PEFT cannot hash it

    config = peft.LoraConfig(r=rank, init_lora_weights="eva", eva_config=peft.EvaConfig(rho=1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of biases, which have not changed yet
        found = get_eva_state_dict(
            model,
            batches,
            config,
            prepare_model_inputs_fn=read_mask,
            prepare_layer_inputs_fn=read_inputs,
            show_progress_bar=False,
        )
    return {path.removeprefix(PREFIX): directions for path, directions in found.items()}


def make_up_for_rounding(model: "PeftModel", full: "PreTrainedModel") -> None:
    """Begin each s B A as the best approximation of what 4 bits took from the layer (LoftQ).

    Source: Li et al. 2023, arXiv 2310.08659, section 3, with the one rounding that everyone who
    loads the base gets. PEFT's `replace_lora_weights_loftq` leaves out the scale s.

    Args:
        full: the base in full precision.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    with torch.no_grad():
        for path, layer in adapted_layers(model):
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            whole = full.get_submodule(path)
            weight = whole.weight.T if isinstance(whole, Conv1D) else whole.weight  # (out, in)
            rounded = dequantize_layer(layer.get_base_layer()).float()
            u, s, v = torch.linalg.svd(weight.to(rounded) - rounded, full_matrices=False)
            root = (s[: len(a)] / layer.scaling["default"]).sqrt()
            a.copy_(root[:, None] * v[: len(a)])
            b.copy_(u[:, : len(a)] * root)
            if "default" in layer.lora_magnitude_vector:  # DoRA's are the lengths of the sum
                layer.lora_variant["default"].init(
                    layer, adapter_name="default", config=model.peft_config["default"]
                )


class _Batches:
    """Full batches of training rows in a random order, over and over, up to a limit."""

    def __init__(self, rows: TrainingRows, size: int) -> None:
        self.rows = rows
        self.size = size

    def __len__(self) -> int:
        """The batches of one pass."""
        return len(self.rows.encoded) // self.size

    def __iter__(self) -> Iterator[Any]:
        random = np.random.default_rng(self.rows.seed)
        left = MOST_BATCHES
        while True:
            order = random.permutation(len(self.rows.encoded))
            for number in range(len(self)):
                if not left:
                    raise RecipeError(
                        f"lora.init_lora_weights: eva's directions still move after {MOST_BATCHES} "
                        "batches; use a lower rank, or another initialisation"
                    )
                left -= 1
                yield self._collate(order[number * self.size : (number + 1) * self.size])

    def _collate(self, numbers: np.ndarray) -> Any:
        inputs = self.rows.collate(model_inputs(self.rows.encoded[numbers.tolist()]))
        inputs.pop("labels", None)
        return inputs
