"""The recipe's `lora:` section: the adapter's size, layers, initialization and variants."""

import re
from dataclasses import dataclass, field
from typing import Literal

from lora_tune.config.validation import (
    Problems,
    check_dropout,
    check_minimum,
    check_positive,
)
from lora_tune.errors import did_you_mean

# PEFT's names, except for `default`, which is `True` in PEFT: A is random and B is zero.
INITIALIZATIONS = ("default", "gaussian", "orthogonal", "pissa", "olora", "eva", "loftq")
PISSA_ITERATIONS = re.compile(r"pissa_niter_\d+")  # PiSSA with a randomized SVD


@dataclass(frozen=True)
class LoraConfig:
    """The adapter: each adapted weight W becomes W + alpha / rank * B A.

    The keys have PEFT's names where PEFT has them. A pattern is a module name, or a regular
    expression that matches the end of a module's path, from a dot on.

    Source: Hu et al. 2021, arXiv 2106.09685.
    """

    rank: int = 8
    """The rank of the matrices A and B (`r` in PEFT)."""

    alpha: float = 16
    """The numerator of the scale `alpha / rank` (`lora_alpha` in PEFT)."""

    dropout: float = 0.05
    """The dropout probability on the adapter's input during training (`lora_dropout` in PEFT)."""

    target_modules: str | list[str] = "all-linear"
    """The modules to adapt: `all-linear`, or a list of module names such as `[query, value]`."""

    exclude_modules: str | list[str] | None = None
    """The modules among these to leave out: a list of module names, or a regular expression that
    matches the whole path."""

    layers_to_transform: list[int] | None = None
    """The indices of the layers to adapt, counted from 0. If null, all layers."""

    rank_pattern: dict[str, int] = field(default_factory=dict)
    """The rank of the modules that match a pattern, instead of `rank`, such as `{query: 16}`."""

    alpha_pattern: dict[str, float] = field(default_factory=dict)
    """The alpha of the modules that match a pattern, instead of `alpha`, such as `{query: 32}`."""

    init_lora_weights: str = "default"
    """The initialization of A and B: `default` (A random, B zero), `gaussian`, `orthogonal`,
    `pissa`, `pissa_niter_16` (with 16 iterations, or another number), `olora`, `eva`, or `loftq`
    (for a 4-bit base model)."""

    init_head_weights: Literal["linear_probe", "default"] = "linear_probe"
    """The initialization of a head that the base model lacks: `linear_probe`, with a
    last layer that is fitted to the training rows as a linear model of what it gets from the frozen
    base model (LP-FT, Kumar et al. 2022, arXiv 2202.10054), or `default`, random."""

    use_rslora: bool = False
    """Whether to scale by `alpha / sqrt(rank)` (rsLoRA, Kalajdzievski 2023, arXiv 2312.03732)."""

    use_dora: bool = False
    """Whether to train a magnitude vector for each adapted layer too (DoRA, Liu et al. 2024, arXiv
    2402.09353)."""

    bias: Literal["none", "all", "lora_only"] = "none"
    """The biases of the base model to train: none, all, or those of the adapted layers."""

    modules_to_save: list[str] | None = None
    """Further modules to train in full and to save with the adapter. The head always is."""

    lora_plus_ratio: float | None = None
    """The ratio of B's learning rate to A's, at least 1 (LoRA+, Hayou et al. 2024, arXiv
    2402.12354). If null, 1."""

    @property
    def changes_base(self) -> bool:
        """Whether A and B are initialized from base weights, which are then reduced by B A."""
        return self.init_lora_weights.startswith(("pissa", "olora"))

    def validate(self) -> Problems:
        """Yield what the types of the fields cannot rule out."""
        yield from check_minimum("rank", self.rank, 1)
        yield from check_positive("alpha", self.alpha)
        yield from check_dropout("dropout", self.dropout)
        yield from self._validate_modules()
        for pattern, rank in self.rank_pattern.items():
            yield from _validate_pattern("rank_pattern", pattern)
            if rank < 1:
                yield "rank_pattern", f"must be >= 1, got {rank} for {pattern!r}"
        for pattern, alpha in self.alpha_pattern.items():
            yield from _validate_pattern("alpha_pattern", pattern)
            if alpha <= 0:
                yield "alpha_pattern", f"must be above 0, got {alpha} for {pattern!r}"
        yield from self._validate_initialization()
        if self.lora_plus_ratio is not None and self.lora_plus_ratio < 1:
            yield "lora_plus_ratio", f"must be >= 1, or null, got {self.lora_plus_ratio}"

    def _validate_modules(self) -> Problems:
        targets, excluded = self.target_modules, self.exclude_modules
        if targets != "all-linear" and (isinstance(targets, str) or not _are_names(targets)):
            yield (
                "target_modules",
                f"found {targets!r}, expected all-linear or a list of module names such as "
                "[query, value]",
            )
        if isinstance(excluded, str) and excluded:
            yield from _validate_pattern("exclude_modules", excluded)
        elif excluded is not None and not _are_names(excluded):
            yield (
                "exclude_modules",
                f"found {excluded!r}, expected null, a list of module names such as [pooler.dense] "
                "or a regular expression",
            )
        layers = self.layers_to_transform
        if layers is not None and (not layers or min(layers) < 0):
            yield (
                "layers_to_transform",
                f"found {layers}, expected numbers from 0 on, or null for all layers",
            )
        if self.modules_to_save is not None and not self.modules_to_save:
            yield "modules_to_save", "found [], expected module names, or null for the head only"

    def _validate_initialization(self) -> Problems:
        name = self.init_lora_weights
        if name not in INITIALIZATIONS and not PISSA_ITERATIONS.fullmatch(name):
            near = did_you_mean(name, INITIALIZATIONS)
            allowed = f"{', '.join(INITIALIZATIONS)} or pissa_niter_N"
            yield "init_lora_weights", f"found {name!r}, expected {allowed}{near}"
        odd = [rank for rank in (self.rank, *self.rank_pattern.values()) if rank % 2]
        if name == "orthogonal" and odd:
            yield "init_lora_weights", f"orthogonal needs even ranks, got {odd[0]}"


def _are_names(names: str | list[str]) -> bool:
    return bool(names) and all(names)


def _validate_pattern(key: str, pattern: str) -> Problems:
    try:
        re.compile(rf"(.*\.)?({pattern})$" if key != "exclude_modules" else pattern)  # as in PEFT
    except (re.error, OverflowError, RecursionError) as error:
        yield key, f"found {pattern!r}, expected a name or a regular expression: {error}"
