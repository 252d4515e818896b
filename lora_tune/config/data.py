"""The recipe's `data:` section: where the rows come from and how they become tokens."""

from dataclasses import dataclass, field
from string import Formatter
from typing import Literal

from lora_tune.config.validation import (
    Problems,
    check_minimum,
    check_proportion,
    check_seed,
)
from lora_tune.errors import did_you_mean

# The names of the templates in lora_tune/data/chat_templates.py.
CHAT_TEMPLATE_NAMES = ("chatml", "gemma", "llama3", "mistral", "phi3", "qwen", "zephyr")

NO_QUOTE = "none"  # the value of `data.format.quote` where quotation marks are text


@dataclass(frozen=True)
class SplitConfig:
    """The rows of one split: those of `file`, else of `split`, else `fraction` of train."""

    split: str | None = None
    """A split of `data.source`. If null, the split with the same name as this section."""

    file: str | None = None
    """A file with the rows of this split, instead of a split of `data.source`."""

    fraction: float | None = None
    """The share of the training rows to set aside for this split, between 0 and 1, stratified by
    class. For `validation` and `test` only; ignored if `split` or `file` is set."""

    samples: int | None = None
    """The number of rows to draw at random with `data.seed`. If null, all rows."""

    shards: int | None = None
    """The number of equal parts to cut the split into. Set together with `shard`."""

    shard: int | None = None
    """The part to keep, counted from 0."""

    def validate(self) -> Problems:
        """Yield what the types of the fields cannot rule out."""
        if self.fraction is not None and not (self.file or self.split):
            for key in ("samples", "shards", "shard"):
                if getattr(self, key) is not None:
                    yield key, "needs split or file; fraction takes the rows from train"
        yield from check_proportion("fraction", self.fraction)
        yield from check_minimum("samples", self.samples, 1)
        if (self.shards is None) != (self.shard is None):
            yield "shards", "must be set together with shard, such as shards=4 shard=0"
        elif self.shards is not None and not 0 <= (self.shard or 0) < self.shards:
            yield "shard", f"must be at least 0 and below shards, got {self.shard} of {self.shards}"


@dataclass(frozen=True)
class FormatConfig:
    """How csv, tsv and txt files are written, where they differ from UTF-8 and RFC 4180."""

    delimiter: str | None = None
    """The character between cells, such as `";"`. If null, a comma in csv and a tab in tsv; where
    the header of a csv file has no comma, the semicolon, tab or bar that it has."""

    encoding: str | None = None
    """The character encoding, such as `latin-1` or `cp1252`. If null, UTF-8; or UTF-16 where the
    file begins with its byte-order mark."""

    quote: str | None = None
    """The character around cells that contain delimiters or line breaks; `none` where quotation
    marks are text. If null, the double quotation mark."""

    header: list[str] | None = None
    """The column names of a file whose first row is not a header."""

    def validate(self) -> Problems:
        """Yield what the types of the fields cannot rule out."""
        for key in ("delimiter", "quote"):
            value = getattr(self, key)
            if value is not None and len(value) != 1 and (key, value) != ("quote", NO_QUOTE):
                other = f", or {NO_QUOTE}" if key == "quote" else ""
                yield key, f"found {value!r}, expected one character{other}"
            elif value in ("\n", "\r", "\0"):
                yield key, f"found {value!r}, which ends a row"
        if self.delimiter is not None and self.delimiter == (self.quote or '"'):
            yield "quote", f"found {self.delimiter!r}, which is also the delimiter"
        if self.encoding is not None and not _is_encoding(self.encoding):
            yield "encoding", f"found {self.encoding!r}, expected one such as latin-1 or cp1252"
        if self.header is not None and (
            not all(self.header) or len(set(self.header)) < len(self.header)
        ):
            yield "header", f"found {self.header}, expected a different name for each column"


@dataclass(frozen=True)
class DataConfig:
    """The rows, their columns and labels, the splits, and tokenization."""

    source: str | dict[str, str] = "???"
    """A file (csv, tsv, json, jsonl, parquet, conll, txt, xlsx), a folder of such files, a dataset
    ID on the Hub, or `embedded:NAME` for a data set that comes with lora_tune. A mapping names a
    file for each class, such as `{positive: pos.txt, negative: neg.txt}`. Required."""

    format: FormatConfig = field(default_factory=FormatConfig)
    """How csv, tsv and txt files are written."""

    subset: str | None = None
    """The configuration of a Hub dataset that has several."""

    revision: str | None = None
    """The branch, tag or commit of a Hub dataset. If null, its main branch."""

    id: str | None = None
    """The column that identifies a row, such as `ticket_id`, in predictions and reports. If null,
    rows are identified by their number."""

    text: str = "text"
    """The column with the text (for `token_classification`, the list of words); or a template of
    several columns, such as `"{subject}\\n\\n{body}"`."""

    text_pair: str | None = None
    """The column with a second text, for tasks on pairs of texts."""

    label: str = "label"
    """The column with the label."""

    prompt: str | None = None
    """The template of the prompt, such as `"Question: {question}"`; braces hold column names."""

    completion: str | None = None
    """The template of the completion to learn, such as `"{answer}"`. If null, `causal_lm` learns
    the whole text."""

    messages: str | None = None
    """The column with conversations: lists of `role` and `content`."""

    chat_template: bool | str | None = None
    """Whether `prompt` and `completion` become turns of a chat, formatted by the tokenizer's chat
    template. Text is the chat template to use instead of the tokenizer's: `chatml`, `gemma`,
    `llama3`, `mistral`, `phi3`, `qwen`, `zephyr`, or a Jinja template."""

    system: str | None = None
    """The system message of a chat that has none; braces hold column names."""

    labels: list[str] | None = None
    """The label names in the order of their IDs. If null, those that the column defines, else
    those found in train, sorted."""

    missing: Literal["refuse", "drop"] = "refuse"
    """What happens with rows without text or label (null, NaN, empty or blank): `refuse` names them
    and stops, `drop` leaves them out."""

    rare: Literal["drop", "other"] | None = None
    """What happens with classes that have fewer rows than there are splits to fill: `drop` leaves
    their rows out, `other` makes them one class of that name. If null, they are named as an
    error."""

    class_weights: Literal["balanced"] | list[float] | None = None
    """The weight of each class in the training loss: `balanced` (inversely proportional to its
    number of rows), or a list of numbers in the order of `labels`. If null, all are 1."""

    threshold: float | None = None
    """The probability from which a label is predicted in `multi_label_classification`. If null,
    the one with the highest micro F1 on the validation rows; with fewer than 50 of them, in a
    cross-validation of a linear probe."""

    train: SplitConfig = field(default_factory=SplitConfig)
    """The training rows."""

    validation: SplitConfig = field(default_factory=SplitConfig)
    """The rows to select the best epoch on. Where the source has no validation split and none is
    named, a tenth of the training rows."""

    test: SplitConfig = field(default_factory=SplitConfig)
    """The rows that the comparison is computed on. Training never reads them. Where the source has
    no test split and none is named, a fifth of the training rows."""

    train_rows: int | None = None
    """The number of training rows to keep after validation and test rows are set aside, drawn with
    `data.seed`. A smaller number keeps a subset of the rows of a larger one. If null, all."""

    seed: int = 42
    """The seed for drawing `samples`, `train_rows` and the rows of a `fraction`."""

    max_length: int = 512
    """The maximum length of an input in tokens, special tokens included. Longer inputs are
    truncated."""

    truncation_side: Literal["left", "right"] = "right"
    """The side that truncation removes tokens from."""

    @property
    def is_chat(self) -> bool:
        """Whether rows are conversations, or are formatted as conversations."""
        return self.messages is not None or bool(self.chat_template)

    def validate(self) -> Problems:
        """Yield what the types of the fields cannot rule out."""
        for name in ("format", "train", "validation", "test"):
            for key, message in getattr(self, name).validate():
                yield f"{name}.{key}", message
        if self.train.fraction is not None:
            yield "train.fraction", "is for validation and test; use train.samples"
        yield from check_minimum("train_rows", self.train_rows, 2)
        yield from check_seed("seed", self.seed)
        if self.max_length < 8:
            yield "max_length", f"must be >= 8 tokens, got {self.max_length}"
        yield from self._validate_templates()
        yield from check_proportion("threshold", self.threshold)
        if isinstance(self.class_weights, list) and self.rare is not None:
            yield "class_weights", "cannot be a list together with data.rare; set balanced"
        elif isinstance(self.class_weights, list):
            yield from self._validate_class_weights(self.class_weights)
        if self.labels is not None and len(set(self.labels)) < len(self.labels):
            yield "labels", f"must not repeat a name, got {self.labels}"
        if self.labels is not None and len(self.labels) < 2:
            yield "labels", f"must name at least 2 classes, got {self.labels}"

    def _validate_templates(self) -> Problems:
        for key in ("text", "text_pair", "prompt", "completion", "system"):
            template = getattr(self, key) or ""
            try:
                parts = list(Formatter().parse(template))
            except ValueError as error:
                yield key, f"found {template!r}: {error}; write {{{{ and }}}} for literal braces"
                continue
            if any(name == "" or spec or conversion for _, name, spec, conversion in parts):
                yield key, f"found {template!r}, expected only a column name between braces"
        if self.prompt is not None and self.completion is None:
            yield "prompt", "needs data.completion, such as '{answer}'"
        if self.messages is not None and self.completion is not None:
            yield "messages", "holds whole conversations; remove data.prompt and data.completion"
        if self.chat_template and self.messages is None and self.prompt is None:
            yield "chat_template", "needs data.messages, or data.prompt and data.completion"
        if isinstance(self.chat_template, str):
            yield from _check_chat_template(self.chat_template)
        if self.system is not None and not self.is_chat:
            yield "system", "is for chats; set data.messages, or data.chat_template=true"

    def _validate_class_weights(self, weights: list[float]) -> Problems:
        if not any(weights) or min(weights) < 0:
            yield "class_weights", f"must be at least 0, and some above 0, got {weights}"
        elif self.labels is None:
            yield "class_weights", "needs data.labels, since the weights are in their order"
        elif len(weights) != len(self.labels):
            yield "class_weights", f"found {len(weights)} numbers for {len(self.labels)} labels"


def _is_encoding(name: str) -> bool:
    try:
        "".encode(name)
    except (LookupError, UnicodeError):
        return False
    return True


def _check_chat_template(template: str) -> Problems:
    """Yield a name that no built-in chat template has. Jinja is parsed with the tokenizer."""
    if template in CHAT_TEMPLATE_NAMES or "{{" in template or "{%" in template:
        return
    yield (
        "chat_template",
        f"found {template!r}, expected a built-in chat template ({', '.join(CHAT_TEMPLATE_NAMES)}) "
        f"or a Jinja template{did_you_mean(template, CHAT_TEMPLATE_NAMES)}",
    )
