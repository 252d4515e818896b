"""Training rows as the model gets them: decoded from the tokens that training uses."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.config.redaction import redact
from lora_tune.data.batching import IGNORE_INDEX
from lora_tune.data.rows import Split
from lora_tune.data.spans import END, START
from lora_tune.data.splits import Data
from lora_tune.metrics.entities import OUTSIDE
from lora_tune.tasks import Task
from lora_tune.tasks.language_modeling import TARGET_BYTES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN_ROWS = 3
EDGE = 90  # characters of a long part that are shown at its beginning, and at its end
MAX_PARTS = 8  # of a row
INPUT, LEARNED, ANSWER = "input", "learned", "answer"
LEGENDS = {  # by the task's output kind
    "text": "The loss counts the tokens of 'learned' lines; the model only reads 'input' lines.",
    "tags": "Below each row, its words with another tag than O.",
    "span": "'answer' lines hold the answer's tokens; the first token of a row stands for none.",
}


@dataclass(frozen=True)
class Part:
    """Consecutive tokens of a row that have one meaning in training."""

    name: str  # INPUT, LEARNED, ANSWER, or the tag of a word
    ids: list[int]  # of the whole sequence that the part is in
    start: int
    end: int  # after its last token

    def decode(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        first: int | None = None,
        last: int | None = None,
    ) -> str:
        """Decode the part, special tokens included.

        Args:
            tokenizer: of the model.
            first: how many of its first tokens; None for all.
            last: how many of its last tokens; None for all.
        """

        def decode(ids: Sequence[int]) -> str:
            return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))

        start = self.start if last is None else self.end - last
        end = self.end if first is None else self.start + first
        # Some decoders drop a space in front of the first token, so the tokens before are decoded
        # too.
        before, through = decode(self.ids[:start]), decode(self.ids[:end])
        if through.startswith(before):
            return through.removeprefix(before)
        return decode(self.ids[start:end])


def preview_rows(
    data: Data, *, task: Task, tokenizer: "PreTrainedTokenizerBase", count: int
) -> list[str]:
    r"""Format the first training rows as the model gets them, as lines of text.

    Each part of a row has lines of its own, with its name in front, so that nothing in a text looks
    like a mark. Control characters are escaped, such as \n for a line break.

    Args:
        data: the splits of a run.
        task: of the rows.
        tokenizer: of the model.
        count: of rows.
    """
    split = data.train
    rows = split.encoded.select(range(min(count, len(split.encoded))))
    packed = is_packed(split, task)
    kind = "blocks" if packed else "training rows"
    lines = [
        f"First {len(rows):,} of {len(split.encoded):,} {kind} as the model gets them: decoded "
        r"tokens, with escapes such as \n."
    ]
    if packed:
        lines.append(
            f"The {len(split.rows.texts):,} training texts are concatenated and cut into blocks of "
            f"{data.max_length:,} tokens."
        )
    lines += [LEGENDS[task.output_kind]] if task.output_kind in LEGENDS else []
    secret = packed and any(map(_has_secret, _first_texts(data, blocks=len(rows))))
    for number, row in enumerate(rows):
        if not packed:
            secret = _has_secret(split.rows.texts[number])
        lines.append(_describe_row(number, row, data, task=task, packed=packed))
        if secret:  # a tokenizer may change or cut a secret such that it is not found any more
            lines.append("  not shown: the text contains a secret from the environment or in a URL")
        else:
            parts = find_parts(
                row, task=task, tokenizer=tokenizer, label_names=split.rows.label_names
            )
            lines += format_parts(parts, tokenizer)
    return lines


def is_packed(split: Split, task: Task) -> bool:
    """Whether the rows of a split are blocks of several texts."""
    return task.output_kind == "text" and TARGET_BYTES not in split.encoded.column_names


def find_parts(
    row: dict[str, Any],
    *,
    task: Task,
    tokenizer: "PreTrainedTokenizerBase",
    label_names: Sequence[str],
) -> list[Part]:
    """Divide a tokenized row by what its tokens mean in training.

    Args:
        row: of `Split.encoded`.
        task: of the row.
        tokenizer: has the special tokens that end a row.
        label_names: in the order of their IDs.

    Returns:
        All tokens, in parts whose names alternate; for tags, all tokens and then each word with
        another tag than O.
    """
    ids, labels = row["input_ids"], row["labels"]
    everything = Part(INPUT, ids, 0, len(ids))
    if task.output_kind == "tags":
        added = {tokenizer.sep_token_id, tokenizer.eos_token_id}
        final = max((at for at, number in enumerate(ids) if number not in added), default=0)
        return [everything, *_find_tagged_words(ids, labels[: final + 1], label_names)]
    if task.output_kind == "span":
        first, last = _find_flag(labels, START), _find_flag(labels, END)
        if first is None or last is None:
            return [everything]
        return _group(ids, [ANSWER if first <= at <= last else INPUT for at in range(len(ids))])
    if task.generation is None:
        return [everything]
    if task.generation.is_encoder_decoder:
        return [everything, Part(LEARNED, labels, 0, len(labels))]
    return _group(ids, [INPUT if label == IGNORE_INDEX else LEARNED for label in labels])


def format_parts(parts: Sequence[Part], tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """Format the parts of a row as lines; what is left out in the middle is counted."""
    width = max(len(part.name) for part in parts)
    formatted = [_format_part(part, tokenizer, width) for part in parts]
    if len(parts) > MAX_PARTS:
        hidden = parts[MAX_PARTS // 2 : -MAX_PARTS // 2]
        tokens = sum(part.end - part.start for part in hidden)
        note = f"  ({len(hidden):,} parts of {tokens:,} tokens not shown)"
        formatted[MAX_PARTS // 2 : -MAX_PARTS // 2] = [[note]]
    return [line for lines in formatted for line in lines]


def escape(text: str) -> str:
    r"""Escape what a terminal does not show as it is: \n, \t, \\, a space at the end, and so on."""
    shown = "".join(
        char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode()
        for char in text
    )
    return f"{shown[:-1]}\\x20" if shown.endswith(" ") else shown


def _describe_row(number: int, row: dict[str, Any], data: Data, *, task: Task, packed: bool) -> str:
    """Say which row it is, its number of tokens, and its label where it has one."""
    tokens, labels = len(row["input_ids"]), row["labels"]
    if packed:
        return f"block {number}: {tokens:,} tokens"
    split = data.train
    facts = [f"{tokens:,} tokens"]
    if task.generation is not None:
        facts.append(f"{sum(label != IGNORE_INDEX for label in labels):,} learned")
    counted = int(split.token_counts[number])
    if counted > data.max_length:
        longer = task.generation is not None and task.generation.is_encoder_decoder
        facts.append(f"truncated from {counted:,}" + (" (the longer text)" if longer else ""))
    facts += _describe_label(labels, task, split.rows.label_names)
    return f"row {split.rows.row_numbers[number]}: {', '.join(facts)}"


def _describe_label(labels: Any, task: Task, names: Sequence[str]) -> Iterator[str]:
    """Describe the label of a whole row, from the numbers that it is trained on."""
    if task.output_kind == "class":
        yield f"label {escape(redact(names[labels]))}"
    elif task.output_kind == "labels":
        own = [name for name, present in zip(names, labels, strict=True) if present]
        yield f"labels {escape(redact('; '.join(own) or 'none'))}"
    elif task.output_kind == "value":
        yield f"{escape(names[0])} {labels!r}"
    elif task.output_kind == "span" and _find_flag(labels, START) is None:
        yield "its answer is truncated, so the loss does not count the row"
    elif task.output_kind == "span" and _find_flag(labels, START) == 0:
        yield "no answer"


def _format_part(part: Part, tokenizer: "PreTrainedTokenizerBase", width: int) -> list[str]:
    def line(text: str) -> str:
        return f"  {part.name:{width}} | {escape(redact(text))}"

    tokens = part.end - part.start
    whole = part.decode(tokenizer)
    if len(whole) <= 2 * EDGE:
        return [line(whole)]
    counts = range(1, tokens)
    first = bisect_right(counts, EDGE, key=lambda n: len(part.decode(tokenizer, first=n)))
    last = bisect_right(counts, EDGE, key=lambda n: len(part.decode(tokenizer, last=n)))
    hidden = tokens - first - last
    if not first or not last or hidden < 1:  # of very long tokens
        return [line(whole)]
    return [
        line(part.decode(tokenizer, first=first)),
        f"  {'':{width}}   ({hidden:,} tokens not shown)",
        line(part.decode(tokenizer, last=last)),
    ]


def _group(ids: list[int], names: Sequence[str]) -> list[Part]:
    """Group consecutive tokens with the same name, (tokens,) both."""
    parts, start = [], 0
    for name, group in groupby(names):
        end = start + len(list(group))
        parts.append(Part(name, ids, start, end))
        start = end
    return parts


def _find_tagged_words(
    ids: list[int], labels: Sequence[int], names: Sequence[str]
) -> Iterator[Part]:
    """Find words with another tag than O; the first token of a word bears its tag."""
    starts = [at for at, label in enumerate(labels) if label != IGNORE_INDEX]
    for start, end in pairwise([*starts, len(labels)]):
        if names[labels[start]] != OUTSIDE:
            yield Part(names[labels[start]], ids, start, end)


def _find_flag(labels: Sequence[int], flag: int) -> int | None:
    """Find the token whose label has a flag of `data/spans.py`."""
    found = (at for at, label in enumerate(labels) if label != IGNORE_INDEX and label & flag)
    return next(found, None)


def _has_secret(text: str) -> bool:
    return redact(text) != text


def _first_texts(data: Data, *, blocks: int) -> Sequence[str]:
    """Return all texts that the first blocks contain a token of, and perhaps a few more."""
    # Two texts may share the token between them, so a text adds one token less than it has.
    ends = np.cumsum(data.train.token_counts - 1)
    last = int(np.searchsorted(ends, blocks * data.max_length))
    return data.train.rows.texts[: last + 1]
