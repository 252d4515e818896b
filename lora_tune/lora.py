"""What the recipe's `lora:` section may say, and its defaults."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from lora_tune.suggestions import did_you_mean

# How A and B begin. Names are PEFT's, but for `default` (its `true`): A random, B zero.
INITIALISATIONS = ("default", "gaussian", "orthogonal", "pissa", "olora", "eva", "loftq")
PISSA_STEPS = re.compile(r"pissa_niter_\d+")  # a faster, approximate SVD of so many iterations

Faults = Iterator[tuple[str, str]]  # (key below a section, what is wrong)


@dataclass(frozen=True)
class LoraConfig:
    """The adapter (Hu et al. 2021, arXiv 2106.09685): W + alpha / rank * B A.

    Keys are PEFT's own where it has them. A pattern is a module name or a regular expression that
    matches the end of its path, from a dot on.
    """

    rank: int = 8
    alpha: float = 16
    dropout: float = 0.05  # on the adapter's input
    target_modules: Any = "all-linear"  # or a list of module names
    exclude_modules: Any = None  # of those: a list of names, or a pattern for the whole path
    layers_to_transform: list[int] | None = None  # these layers alone, counted from 0; null: all
    rank_pattern: dict[str, int] = field(default_factory=dict)  # pattern: rank
    alpha_pattern: dict[str, float] = field(default_factory=dict)  # pattern: alpha
    init_lora_weights: str = "default"  # one of INITIALISATIONS, or pissa_niter_16 and its like
    use_rslora: bool = False  # alpha / sqrt(rank): Kalajdzievski 2023, arXiv 2312.03732
    use_dora: bool = False  # with a trained magnitude: Liu et al. 2024, arXiv 2402.09353
    bias: Literal["none", "all", "lora_only"] = "none"  # of the base, trained too
    modules_to_save: list[str] | None = None  # trained and saved whole, beside the head
    lora_plus_ratio: float | None = None  # B's learning rate over A's: arXiv 2402.12354; null: 1

    @property
    def changes_base(self) -> bool:
        """Whether A and B begin as a part of the base's weights, which is taken out of them."""
        return self.init_lora_weights.startswith(("pissa", "olora"))

    def faults(self) -> Faults:
        """Yield what no single type can forbid."""
        if self.rank < 1:
            yield "rank", f"must be >= 1, got {self.rank}"
        if self.alpha <= 0:
            yield "alpha", f"must be above 0, got {self.alpha}"
        if not 0 <= self.dropout < 1:
            yield "dropout", f"must be at least 0 and below 1, got {self.dropout}"
        if self.target_modules != "all-linear" and not _is_name_list(self.target_modules):
            yield (
                "target_modules",
                f"found {self.target_modules!r}, expected all-linear or a list of module names "
                "such as [query, value]",
            )
        excluded = self.exclude_modules
        if isinstance(excluded, str) and excluded:
            yield from _pattern_faults("exclude_modules", excluded)
        elif excluded is not None and not _is_name_list(excluded):
            yield (
                "exclude_modules",
                f"found {excluded!r}, expected null, a list of module names such as [pooler.dense] "
                "or one pattern",
            )
        if self.layers_to_transform is not None and (
            not self.layers_to_transform or min(self.layers_to_transform) < 0
        ):
            yield (
                "layers_to_transform",
                f"found {self.layers_to_transform}, expected numbers from 0 on, or null for all",
            )
        for pattern, rank in self.rank_pattern.items():
            yield from _pattern_faults("rank_pattern", pattern)
            if rank < 1:
                yield "rank_pattern", f"must be >= 1, got {rank} for {pattern!r}"
        for pattern, alpha in self.alpha_pattern.items():
            yield from _pattern_faults("alpha_pattern", pattern)
            if alpha <= 0:
                yield "alpha_pattern", f"must be above 0, got {alpha} for {pattern!r}"
        yield from self._start_faults()
        if self.modules_to_save is not None and not self.modules_to_save:
            yield "modules_to_save", "found [], expected module names, or null for the head alone"
        if self.lora_plus_ratio is not None and self.lora_plus_ratio < 1:
            yield "lora_plus_ratio", f"must be >= 1, or null, got {self.lora_plus_ratio}"

    def _start_faults(self) -> Faults:
        start = self.init_lora_weights
        if start not in INITIALISATIONS and not PISSA_STEPS.fullmatch(start):
            near = did_you_mean(start, INITIALISATIONS)
            allowed = f"{', '.join(INITIALISATIONS)} or pissa_niter_N"
            yield "init_lora_weights", f"found {start!r}, expected {allowed}{near}"
        odd = [rank for rank in (self.rank, *self.rank_pattern.values()) if rank % 2]
        if start == "orthogonal" and odd:
            yield "init_lora_weights", f"orthogonal needs even ranks, got {odd[0]}"


def _is_name_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(n, str) and n for n in value)


def _pattern_faults(key: str, pattern: str) -> Faults:
    try:
        re.compile(rf"(.*\.)?({pattern})$" if key != "exclude_modules" else pattern)  # as PEFT does
    except (re.error, OverflowError, RecursionError) as error:
        yield key, f"found {pattern!r}, expected a name or a regular expression: {error}"
