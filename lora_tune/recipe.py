"""What a recipe may say, and its defaults: the frozen dataclasses behind every YAML key.

`load_recipe` in `recipe_file.py` makes them from a file and checks every value.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from lora_tune.data_config import DataConfig as DataConfig
from lora_tune.data_config import SplitConfig as SplitConfig
from lora_tune.lora import Faults, LoraConfig

# What `training:` starts from; every other field keeps the default of TrainingArguments.
TRAINING_DEFAULTS: dict[str, Any] = {
    "learning_rate": 1e-3,  # LoRA wants about ten times the rate of full fine-tuning
    "num_train_epochs": 3,
    "per_device_train_batch_size": 16,
    "token_budget": 8192,  # most tokens of a forward pass; a batch of more goes in several
    "weight_decay": 0.01,
    "warmup_steps": 0.06,  # below 1: a share of all steps
    "seed": 42,  # head, adapter and data order
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "logging_strategy": "steps",
    "logging_steps": 0.02,  # below 1: a share of all steps
    "load_best_model_at_end": True,
    "metric_for_best_model": None,  # on validation rows; null: the task's own metric
    "save_total_limit": 1,
    "save_only_model": True,
    "logging_nan_inf_filter": False,  # a NaN loss must be seen, not hidden
    "fast": True,  # all of lora_tune/fast; false: PEFT's and torch's own layers
    "early_stopping_patience": None,  # evaluations without improvement; null: no early stopping
    "early_stopping_threshold": 0.0,
    "report_to": "none",
}

TextMetric = Literal["rougeL", "rouge1", "rouge2", "bleu", "exact_match"]
WRITING_TASKS = ("causal_lm", "seq2seq_lm")

# Keys below `data` that mean something to some tasks alone.
OWN_KEYS = {
    "text_pair": (
        "sequence_classification",
        "multi_label_classification",
        "sequence_regression",
    ),
    "labels": ("sequence_classification", "multi_label_classification", "token_classification"),
    "class_weights": ("sequence_classification",),
    "threshold": ("multi_label_classification",),
    "prompt": WRITING_TASKS,
    "completion": WRITING_TASKS,
    "messages": ("causal_lm",),
    "chat_template": ("causal_lm",),
    "system": ("causal_lm",),
}


@dataclass(frozen=True)
class ModelConfig:
    """The frozen base model.

    Its linear layers may be held in 4 or 8 bits, and all its other weights in `dtype`, which 4-bit
    layers compute in too. What is trained, adapter and head, is float32 always. A base is loaded in
    one way alone: training, evaluation and whoever loads the adapter compute with the same weights.
    """

    name: str = "???"  # a folder, a Hub id, or the Hub id of an installed model package
    revision: str | None = None  # Hub branch, tag or commit
    quantization: Literal["4bit", "8bit"] | None = None  # NF4 or LLM.int8, through bitsandbytes
    double_quantization: bool = True  # of 4 bits: the scales of their blocks are in 8 bits too
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # of what is not quantised
    pad_token: str | None = None  # for tokenizers that have none; null: the end-of-text token
    dropout: float | None = 0.0  # inside the frozen base while training; null: as in its config

    @property
    def precision(self) -> str:
        """What the base's weights are held in, in words."""
        plain = "" if self.double_quantization else ", without double quantisation"
        bits = {"4bit": f"4-bit (nf4{plain}) and ", "8bit": "8-bit (int8) and ", None: ""}
        return bits[self.quantization] + self.dtype

    @property
    def is_rounded(self) -> bool:
        """Whether the base's weights are rounded when they are loaded."""
        return self.quantization is not None or self.dtype != "float32"

    def in_full(self) -> "ModelConfig":
        """The same base, in full precision."""
        return replace(self, quantization=None, double_quantization=True, dtype="float32")

    def faults(self) -> Faults:
        """Yield what no single type can forbid."""
        if not self.double_quantization and self.quantization != "4bit":
            found = self.quantization or "null"
            yield "double_quantization", f"false is for quantization=4bit, found {found}"
        if self.dropout is not None and not 0 <= self.dropout < 1:
            yield "dropout", f"must be at least 0 and below 1, got {self.dropout}"


@dataclass(frozen=True)
class GenerationConfig:
    """How a language model writes, and whether what it writes decides the comparison.

    The best epoch is chosen by perplexity either way: to write takes long.
    """

    metric: TextMetric | None = None  # of what is written for the test rows; null: perplexity
    max_new_tokens: int = 64
    num_beams: int = 1  # 1: greedy

    def faults(self) -> Faults:
        """Yield what no single type can forbid."""
        for key in ("max_new_tokens", "num_beams"):
            if getattr(self, key) < 1:
                yield key, f"must be >= 1, got {getattr(self, key)}"


@dataclass(frozen=True)
class LadderConfig:
    """Costlier rungs to compare the adapter with, trained on its budget but at their own rate."""

    full_fine_tuning: bool = False  # every weight
    last_layers: int = 0  # the head and so many layers below it; 0: no such rung
    learning_rate: float = 5e-5

    def faults(self) -> Faults:
        """Yield what no single type can forbid."""
        if self.last_layers < 0:
            yield "last_layers", f"must be >= 0, got {self.last_layers}"
        if self.learning_rate <= 0:
            yield "learning_rate", f"must be above 0, got {self.learning_rate}"


@dataclass(frozen=True)
class Sections:
    """The keys of a recipe file."""

    task: str = "sequence_classification"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    training: dict[str, Any] = field(default_factory=lambda: dict(TRAINING_DEFAULTS))
    ladder: LadderConfig = field(default_factory=LadderConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    seeds: list[int] | None = None  # one training each, the first published; null: training.seed
    examples: list[Any] = field(default_factory=list)  # texts; or rows of several columns

    @property
    def all_seeds(self) -> list[int]:
        """The seeds to train with; the first is that of the published adapter."""
        return self.seeds or [self.training["seed"]]

    def faults(self) -> Faults:
        """Yield what no single type can forbid, by dotted key."""
        for name in ("model", "data", "lora", "ladder", "generation"):
            for key, message in getattr(self, name).faults():
                yield f"{name}.{key}", message
        known = {
            task for tasks in OWN_KEYS.values() for task in tasks
        }  # a misspelt one is told later
        for key, tasks in OWN_KEYS.items():
            if getattr(self.data, key) is not None and self.task in known - set(tasks):
                yield f"data.{key}", f"is for task: {' or '.join(tasks)}, found task: {self.task}"
        yield from self._writing_faults(known)
        for key in ("learning_rate", "num_train_epochs"):
            if self.training[key] <= 0:
                yield f"training.{key}", f"must be above 0, got {self.training[key]}"
        for key, most in (("label_smoothing_factor", 1), ("seed", 2**32 - 1), ("weight_decay", 1)):
            value = self.training.get(key)
            if value is not None and not 0 <= value <= most:
                yield f"training.{key}", f"must be 0 to {most}, got {value}"
        yield from self._precision_faults()
        if self.seeds is not None and not self.seeds:
            yield "seeds", "must name at least one seed, or be null"
        if self.seeds and len(set(self.seeds)) < len(self.seeds):
            yield "seeds", f"must not repeat a seed, got {self.seeds}"
        if self.seeds and not all(0 <= seed < 2**32 for seed in self.seeds):
            yield "seeds", f"must be at least 0 and below 2**32, got {self.seeds}"
        for example in self.examples:
            if not isinstance(example, (str, dict)):
                expected = "expected texts, or rows as {column: text}; in YAML, quote numbers"
                yield "examples", f"found {example!r}, {expected}"
        for key in (
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
            "token_budget",
            "early_stopping_patience",
        ):
            value = self.training.get(key)
            if value is not None and value < 1:
                yield f"training.{key}", f"must be >= 1, got {value}"

    def _writing_faults(self, known: set[str]) -> Faults:
        if self.task in known - set(WRITING_TASKS) and self.generation != GenerationConfig():
            yield "generation", f"is for task: {' or '.join(WRITING_TASKS)}, found {self.task}"
        asks = self.data.messages is not None or "{" in (self.data.prompt or "")
        if self.generation.metric is not None and self.task == "causal_lm" and not asks:
            yield (
                "generation.metric",
                "needs something to answer: data.prompt with {column}, or data.messages",
            )
        if self.task == "seq2seq_lm":
            for key in ("prompt", "completion"):
                if getattr(self.data, key) is None:
                    yield f"data.{key}", f"is needed by task: {self.task}, such as '{{column}}'"

    def _precision_faults(self) -> Faults:
        """Say what needs weights of the base in full precision, where they are rounded."""
        model, lora = self.model, self.lora
        bits, start = model.quantization, lora.init_lora_weights
        keys = ["model.quantization=null"] if bits else []
        keys += ["model.dtype=float32"] if model.dtype != "float32" else []
        mend = f"set {' and '.join(keys)}"
        if start == "loftq" and bits != "4bit":
            # On any other base PEFT puts the rounded weights in place of the base's own; no adapter
            # of a low rank can carry that to those who load it.
            told = f"found model.quantization={bits or 'null'}; set model.quantization=4bit"
            yield "lora.init_lora_weights", f"loftq makes up for 4 bits, {told}"
        elif model.is_rounded and (lora.changes_base or start == "orthogonal"):
            more = ", or use loftq" if bits else ""
            yield "lora.init_lora_weights", f"{start} needs a base in full precision; {mend}{more}"
        mixed = next((key for key in ("bf16", "fp16") if self.training.get(key)), None)
        if mixed and bits == "8bit":
            # Under autocast 8-bit layers round otherwise, and go on doing so afterwards.
            yield f"training.{mixed}", "changes what 8-bit layers compute; set model.dtype=bfloat16"
        if lora.use_dora and bits == "8bit":
            # PEFT reads the weights for their lengths, and loses the scales of 8-bit ones by it.
            yield "lora.use_dora", "cannot read 8-bit weights; set model.quantization=4bit or null"
        if model.is_rounded and (self.ladder.full_fine_tuning or self.ladder.last_layers):
            yield "ladder", f"cannot train weights of a base in {model.precision}; {mend}"
        if model.dtype != "float32":
            told = f"trains weights of the base, found model.dtype={model.dtype}"
            for key in ("bias", "modules_to_save"):
                if getattr(lora, key) not in ("none", None):
                    yield f"lora.{key}", f"{told}; set model.dtype=float32"


@dataclass(frozen=True)
class Recipe(Sections):
    """A complete recipe."""

    name: str = ""  # of the file, without its suffix
    source_as_written: str = ""  # data.source with its interpolations, which may be secret
    text: str = ""  # YAML of all keys, defaults and overrides included, interpolations unresolved
