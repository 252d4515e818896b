"""A complete recipe: all its sections, and the checks between sections.

`load_recipe` in `recipe_file.py` makes a recipe from a YAML file and overrides.
"""

from dataclasses import dataclass, field
from typing import Any

from lora_tune.config.baselines import BaselinesConfig
from lora_tune.config.data import DataConfig
from lora_tune.config.generation import GenerationConfig
from lora_tune.config.lora import LoraConfig
from lora_tune.config.model import ModelConfig
from lora_tune.config.training import (
    AUTOCAST_FIELDS,
    TRAINING_DEFAULTS,
    find_precision,
    validate_training,
)
from lora_tune.config.validation import Problems, check_seed


@dataclass(frozen=True)
class Sections:
    """The sections and the other keys of a recipe file."""

    task: str = "sequence_classification"
    """The task, such as `token_classification`. [Tasks](tasks.md) lists all of them."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The base model."""

    data: DataConfig = field(default_factory=DataConfig)
    """The rows, their columns and labels, and tokenization."""

    lora: LoraConfig = field(default_factory=LoraConfig)
    """The adapter."""

    training: dict[str, Any] = field(default_factory=lambda: dict(TRAINING_DEFAULTS))
    """The settings of the training: any field of transformers.TrainingArguments."""

    baselines: BaselinesConfig = field(default_factory=BaselinesConfig)
    """The baselines that train weights of the base model."""

    generation: GenerationConfig = field(default_factory=GenerationConfig)
    """How a language model generates text."""

    seeds: list[int] | None = None
    """The seeds to train with, one training each; the adapter of the first is published. If null,
    `training.seed` alone."""

    examples: list[Any] = field(default_factory=list)
    """Inputs to show predictions for, before and after training: texts, or rows as
    `{column: text}` for tasks with several columns."""

    @property
    def all_seeds(self) -> list[int]:
        """The seeds to train with; the first is that of the published adapter."""
        return self.seeds or [self.training["seed"]]

    def validate(self) -> Problems:
        """Yield what the types of the fields cannot rule out, by dotted key."""
        for name in ("model", "data", "lora", "baselines", "generation"):
            for key, message in getattr(self, name).validate():
                yield f"{name}.{key}", message
        for key, message in validate_training(self.training):
            yield f"training.{key}", message
        yield from self._validate_precision()
        yield from self._validate_seeds()
        for example in self.examples:
            if not isinstance(example, (str, dict)):
                expected = "expected texts, or rows as {column: text}; in YAML, quote numbers"
                yield "examples", f"found {example!r}, {expected}"

    def _validate_seeds(self) -> Problems:
        if self.seeds is None:
            return
        if not self.seeds:
            yield "seeds", "must name at least one seed, or be null"
        if len(set(self.seeds)) < len(self.seeds):
            yield "seeds", f"must not repeat a seed, got {self.seeds}"
        for seed in self.seeds:
            yield from check_seed("seeds", seed)

    def _validate_precision(self) -> Problems:
        """Yield what is impossible with a base model that is quantized or not in float32."""
        model, lora = self.model, self.lora
        bits, initialization = model.quantization, lora.init_lora_weights
        keys = ["model.quantization=null"] if bits else []
        keys += ["model.dtype=float32"] if model.dtype != "float32" else []
        remedy = f"set {' and '.join(keys)}"
        if initialization == "loftq" and bits != "4bit":
            # Without 4-bit layers PEFT replaces the base weights by rounded ones, which a low-rank
            # adapter cannot represent, so other programs would load another model.
            found = f"found model.quantization={bits or 'null'}; set model.quantization=4bit"
            yield "lora.init_lora_weights", f"loftq needs a 4-bit base model, {found}"
        elif model.is_rounded and (lora.changes_base or initialization == "orthogonal"):
            other = ", or use loftq" if bits else ""
            yield (
                "lora.init_lora_weights",
                f"{initialization} needs a base model in full precision; {remedy}{other}",
            )
        if find_precision(self.training) in AUTOCAST_FIELDS.values() and bits == "8bit":
            # 8-bit layers round differently under autocast, and keep doing so afterwards.
            key = next((key for key in AUTOCAST_FIELDS if self.training.get(key)), "precision")
            yield f"training.{key}", "changes what 8-bit layers compute; set model.dtype=bfloat16"
        if lora.use_dora and bits == "8bit":
            # PEFT reads the weights to compute their norms, and thereby loses the 8-bit scales.
            yield "lora.use_dora", "cannot read 8-bit weights; set model.quantization=4bit or null"
        if model.is_rounded and (self.baselines.full_fine_tuning or self.baselines.last_layers):
            yield (
                "baselines",
                f"cannot train weights of a base model in {model.precision}; {remedy}",
            )
        if model.dtype != "float32":
            found = f"found model.dtype={model.dtype}; set model.dtype=float32"
            for key in ("bias", "modules_to_save"):
                if getattr(lora, key) not in ("none", None):
                    yield f"lora.{key}", f"trains weights of the base model, {found}"


@dataclass(frozen=True)
class Recipe(Sections):
    """A complete recipe, with what it was made from."""

    name: str = ""
    """The name of the file, without its suffix."""

    source_as_written: str = ""
    """`data.source` with its interpolations, because their values may be secret."""

    text: str = ""
    """YAML of all keys, defaults and overrides included, with interpolations unresolved."""
