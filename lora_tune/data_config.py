"""What the recipe's `data:` section may say, and its defaults."""

from dataclasses import dataclass, field
from string import Formatter
from typing import Any, Literal

from lora_tune.lora import Faults


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
            template = getattr(self, key) or ""
            try:
                parts = list(Formatter().parse(template))
            except ValueError as error:
                yield key, f"found {template!r}: {error}; a brace itself is written twice"
                continue
            if any(name == "" or spec or how for _, name, spec, how in parts):
                yield key, f"found {template!r}: braces hold a column's name and nothing else"
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
