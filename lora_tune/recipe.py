"""What a recipe may say, and its defaults: the frozen dataclasses behind every YAML key.

`load_recipe` in `recipe_file.py` makes them from a file and checks every value.
"""

from dataclasses import dataclass, field
from string import Formatter
from typing import Any, Literal

from lora_tune.lora import Faults, LoraConfig

# What `training:` starts from; every other field keeps the default of TrainingArguments.
TRAINING_DEFAULTS: dict[str, Any] = {
    "learning_rate": 1e-3,  # LoRA wants about ten times the rate of full fine-tuning
    "num_train_epochs": 3,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 32,
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
    "train_sampling_strategy": "group_by_length",  # rows of like length pad each other little
    "logging_nan_inf_filter": False,  # a NaN loss must be seen, not hidden
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
    """The frozen base model."""

    name: str = "???"  # a folder, a Hub id, or the Hub id of an installed model package
    revision: str | None = None  # Hub branch, tag or commit
    quantization: Literal["4bit", "8bit"] | None = None  # through bitsandbytes
    pad_token: str | None = None  # for tokenizers that have none; null: the end-of-text token
    dropout: float | None = None  # inside the frozen base while training; null: as in its config

    def faults(self) -> Faults:
        """Yield what no single type can forbid."""
        if self.dropout is not None and not 0 <= self.dropout < 1:
            yield "dropout", f"must be at least 0 and below 1, got {self.dropout}"


@dataclass(frozen=True)
class SplitConfig:
    """Which rows form one split: those of `file`, else `split`, else `fraction` of train."""

    split: str | None = None  # a split of data.source; null: the one named like this split
    file: str | None = None  # a file of its own
    fraction: float | None = None  # carved from the training rows, stratified by label
    samples: int | None = None  # so many rows, drawn by data.seed; null: all
    shards: int | None = None  # cut into so many parts...
    shard: int | None = None  # ...and keep this one, counted from 0

    def faults(self) -> Faults:
        """Yield what no single type can forbid."""
        if self.fraction is not None and not (self.file or self.split):
            for key in ("samples", "shards", "shard"):
                if getattr(self, key) is not None:
                    yield key, "needs a split or file of its own; rows are carved by fraction"
        if self.fraction is not None and not 0 < self.fraction < 1:
            yield "fraction", f"must be above 0 and below 1, got {self.fraction}"
        if self.samples is not None and self.samples < 1:
            yield "samples", f"must be >= 1, got {self.samples}"
        if (self.shards is None) != (self.shard is None):
            yield "shards", "goes with shard: name both, such as shards=4 shard=0"
        elif self.shards is not None and not 0 <= (self.shard or 0) < self.shards:
            yield "shard", f"must be at least 0 and below shards, got {self.shard} of {self.shards}"


@dataclass(frozen=True)
class DataConfig:
    """The rows, their columns and labels, and how they are cut into tokens."""

    source: str = "???"  # a file, a folder, a Hub dataset id, or embedded:NAME
    subset: str | None = None  # of a Hub dataset that has several
    revision: str | None = None  # Hub branch, tag or commit
    text: str = "text"  # column names
    text_pair: str | None = None  # of a second text, where the task is about two
    label: str = "label"
    prompt: str | None = None  # of a completion, such as "Question: {question}"; {} name columns
    completion: str | None = None  # to learn, such as "{answer}"; null: the text itself
    messages: str | None = None  # column of conversations: lists of {role, content}
    chat_template: bool | str | None = None  # of messages, or for prompt and completion; true: own
    system: str | None = None  # a chat's first words, where it has none; {} name columns
    labels: list[str] | None = None  # names in the order of their numbers; null: found in train
    class_weights: Any = None  # of the training loss: balanced, or a number for each label
    threshold: float | None = None  # of a label's probability, where rows bear several; null: 0.5
    train: SplitConfig = field(default_factory=SplitConfig)
    validation: SplitConfig = field(default_factory=lambda: SplitConfig(fraction=0.1))
    test: SplitConfig = field(default_factory=SplitConfig)
    train_rows: int | None = None  # of those left when validation and test have theirs; null: all
    seed: int = 42  # of samples and of carved splits
    max_length: int = 512  # tokens, special tokens included
    truncation_side: Literal["left", "right"] = "right"

    @property
    def is_chat(self) -> bool:
        """Whether rows are conversations, or made into ones."""
        return self.messages is not None or bool(self.chat_template)

    def faults(self) -> Faults:
        """Yield what no single type can forbid."""
        for name in ("train", "validation", "test"):
            for key, message in getattr(self, name).faults():
                yield f"{name}.{key}", message
        if self.train.fraction is not None:
            yield "train.fraction", "is for validation and test; use train.samples"
        if self.train_rows is not None and self.train_rows < 2:
            yield "train_rows", f"must be >= 2, got {self.train_rows}"
        if not 0 <= self.seed < 2**32:
            yield "seed", f"must be at least 0 and below 2**32, got {self.seed}"
        if self.max_length < 8:
            yield "max_length", f"must be >= 8 tokens, got {self.max_length}"
        for key in ("prompt", "completion", "system"):
            try:
                list(Formatter().parse(getattr(self, key) or ""))
            except ValueError as error:
                yield key, f"found {getattr(self, key)!r}: {error}; a brace itself is written twice"
        if self.prompt is not None and self.completion is None:
            yield "prompt", "goes with data.completion, such as '{answer}'"
        if self.messages is not None and self.completion is not None:
            yield "messages", "are whole conversations; leave out data.prompt and data.completion"
        if self.chat_template and self.messages is None and self.prompt is None:
            yield "chat_template", "needs data.messages, or data.prompt and data.completion"
        if self.system is not None and not self.is_chat:
            yield "system", "is a turn of a chat: needs data.messages, or data.chat_template=true"
        if self.threshold is not None and not 0 < self.threshold < 1:
            yield "threshold", f"must be above 0 and below 1, got {self.threshold}"
        if self.class_weights not in (None, "balanced"):
            yield from self._weight_faults()
        if self.labels is not None and len(set(self.labels)) < len(self.labels):
            yield "labels", f"must not repeat a name, got {self.labels}"
        if self.labels is not None and len(self.labels) < 2:
            yield "labels", f"must name at least 2 classes, got {self.labels}"

    def _weight_faults(self) -> Faults:
        weights = self.class_weights
        numbers = isinstance(weights, list) and all(
            isinstance(w, (int, float)) and not isinstance(w, bool) and 0 <= w < float("inf")
            for w in weights
        )
        if not numbers or not any(weights):
            yield (
                "class_weights",
                f"found {weights!r}, expected balanced or a number for each label",
            )
        elif self.labels is None or len(weights) != len(self.labels):
            yield "class_weights", f"found {len(weights)} numbers, expected one for each of labels"


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
        whole = self.ladder.full_fine_tuning or self.ladder.last_layers
        if self.model.quantization and whole:
            yield "ladder", "cannot train weights of a quantised base; set model.quantization=null"
        yield from self._quantization_faults()
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
            "early_stopping_patience",
        ):
            value = self.training.get(key)
            if value is not None and value < 1:
                yield f"training.{key}", f"must be >= 1, got {value}"

    def _writing_faults(self, known: set[str]) -> Faults:
        if self.task in known - set(WRITING_TASKS) and self.generation != GenerationConfig():
            yield "generation", f"is for task: {' or '.join(WRITING_TASKS)}, found {self.task}"
        if self.task == "seq2seq_lm":
            for key in ("prompt", "completion"):
                if getattr(self.data, key) is None:
                    yield f"data.{key}", f"is needed by task: {self.task}, such as '{{column}}'"

    def _quantization_faults(self) -> Faults:
        key, start = "lora.init_lora_weights", self.lora.init_lora_weights
        bits = "model.quantization"
        if start == "loftq" and self.model.quantization != "4bit":
            # On any other base PEFT puts the rounded weights in place of the base's own; no adapter
            # of a low rank can carry that to those who load it.
            found = self.model.quantization or "null"
            yield key, f"loftq makes up for 4 bits, found {bits}={found}; set {bits}=4bit"
        elif self.model.quantization and (self.lora.changes_base or start == "orthogonal"):
            yield key, f"{start} needs a base in full precision; set {bits}=null, or use loftq"
        if self.lora.use_dora and self.model.quantization == "8bit":
            # PEFT reads the weights for their lengths, and loses the scales of 8-bit ones by it.
            yield "lora.use_dora", f"cannot read 8-bit weights; set {bits}=4bit or null"


@dataclass(frozen=True)
class Recipe(Sections):
    """A complete recipe."""

    name: str = ""  # of the file, without its suffix
    source_as_written: str = ""  # data.source with its interpolations, which may be secret
    text: str = ""  # YAML of all keys, defaults and overrides included, interpolations unresolved
