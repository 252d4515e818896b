"""Spans of texts, such as answers: read from a column, and as labels of tokens."""

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import regex

from lora_tune.data.batching import IGNORE_INDEX
from lora_tune.data.columns import text_problem
from lora_tune.data.tokenization import BATCH_ROWS
from lora_tune.errors import DataError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

SpanRange = tuple[int, int]  # offset of the first character, and offset after the last
ARRAY = regex.compile(r"array\((\[[^]]*\])(?:, dtype=\w+)?\)")  # as pandas writes numpy's arrays
NO_SPAN: SpanRange = (0, 0)
# The label of a token is FLAGS * (CHARACTERS * start + end), of its characters in the text, + START
# where a span starts in it, + END where one ends in it.
START, END, FLAGS = 1, 2, 4
CHARACTERS = 1 << 24  # of a text at most: up to there, offsets are exact in fp32


def read_spans(cell: str, text: str) -> list[SpanRange]:
    """Read the spans of a row, which occur in its text.

    Args:
        cell: a text, whose first occurrence counts; or, as JSON, lists of texts and of their places
            as in SQuAD: {"text": [...], "answer_start": [...]}. The lists are empty where the text
            has no such span.
        text: that the spans are in.

    Returns:
        The spans; [NO_SPAN] where the lists are empty.

    Raises:
        DataError: the cell has another form, or a span does not occur where it should.
    """
    return list(_find_spans(_parse_cell(cell), text)) or [NO_SPAN]


def tokenize_spans(
    pairs: Sequence[tuple[str, str]],
    spans: Sequence[SpanRange] | None,
    tokenizer: "PreTrainedTokenizerBase",
    max_length: int,
) -> tuple[dict[str, list[Any]], np.ndarray]:
    """Tokenize pairs of texts, and label the tokens of the second text by where its span is.

    The first token of a row, whatever it is, stands for no span. Of a pair that is too long, the
    longer text is truncated first; where that removes an end of the span, no label has a flag.

    Args:
        pairs: of texts, one for each row.
        spans: of the second text, one for each row; None where they are not known.
        tokenizer: of the model.
        max_length: of a row in tokens, special tokens included.

    Returns:
        The model's columns, token types left out, and the labels; and token counts before
        truncation, (rows,).
    """
    columns: dict[str, list[Any]] = {"labels": []}
    counts: list[int] = []
    for start in range(0, len(pairs), BATCH_ROWS):
        first, second = map(list, zip(*pairs[start : start + BATCH_ROWS], strict=True))
        counts += map(len, tokenizer(first, second)["input_ids"])
        encoded = tokenizer(
            first,
            second,
            truncation=True,
            max_length=max_length,
            return_offsets_mapping=True,
            return_token_type_ids=False,
        )
        for i, offsets in enumerate(encoded.pop("offset_mapping")):
            texts = encoded.sequence_ids(i)  # of each token: 0, 1, or None for special tokens
            labels = [
                FLAGS * (CHARACTERS * own[0] + own[1]) if text == 1 else IGNORE_INDEX
                for text, own in zip(texts, offsets, strict=True)
            ]
            labels[0] = 0
            if spans is not None:
                ends = _find_tokens(encoded, i, spans[start + i])
                if None not in ends:
                    labels[ends[0]] += START
                    labels[ends[1]] += END
            columns["labels"].append(labels)
        for name, values in encoded.items():
            columns.setdefault(name, []).extend(values)
    return columns, np.array(counts)


def unpack_labels(labels: "torch.Tensor") -> "torch.Tensor":
    """Unpack labels (rows, tokens) of `tokenize_spans`; what is of ignored ones has no meaning.

    Returns:
        (rows, tokens, 4), in fp32: where a token starts and ends in the text, divided by
        CHARACTERS; and 1 where a span starts in it, and where one ends in it, else 0.
    """
    import torch

    places = labels // FLAGS
    parts = [places // CHARACTERS, places % CHARACTERS, labels & START, labels & END]
    scale = torch.tensor([CHARACTERS, CHARACTERS, START, END], device=labels.device)
    return torch.stack(parts, dim=-1) / scale


def _find_tokens(encoded: Any, row: int, span: SpanRange) -> Any:
    """Find the tokens of a span's first and last character; None for one that is truncated."""
    if span == NO_SPAN:
        return 0, 0
    return tuple(encoded.char_to_token(row, place, 1) for place in (span[0], span[1] - 1))


def _find_spans(cell: Any, text: str) -> Iterator[SpanRange]:
    if not isinstance(cell, Mapping):
        problem = text_problem(cell)
        if problem:
            raise DataError(f"{problem}, or {{text: [...], answer_start: [...]}}")
        cell = {"text": [cell], "answer_start": [_find_words(cell.strip(), text)]}
    spans, starts = cell.get("text"), cell.get("answer_start")
    if not (isinstance(spans, list) and isinstance(starts, list) and len(spans) == len(starts)):
        raise DataError(f"found {cell!r:.60}, expected {{text: [...], answer_start: [...]}}")
    for span, start in zip(spans, starts, strict=True):
        if isinstance(start, float) and start.is_integer():
            start = int(start)
        problem = text_problem(span)
        if problem:
            raise DataError(problem)
        if not isinstance(start, int) or start < 0 or not text.startswith(span.strip(), start):
            place = "" if start == -1 else f" at character {start} of it"
            raise DataError(f"found {span!r:.60}, expected what occurs in the text{place}")
        yield start, start + len(span.strip())


def _parse_cell(cell: str) -> Any:
    """Parse an object as JSON or Python writes it; any other cell is the text of a span."""
    plain = ARRAY.sub(r"\1", cell)
    for parse in (json.loads, ast.literal_eval) if cell.lstrip().startswith("{") else ():
        try:
            found = parse(plain if parse is ast.literal_eval else cell)
            return found if isinstance(found, dict) else cell
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return cell


def _find_words(span: str, text: str) -> int:
    """Find the first occurrence, of whole words if there is such; -1 where there is none.

    Combining marks, and what extends an emoji, belong to the word.
    """
    extended = r"[\w\p{Grapheme_Cluster_Break=Extend}]"
    whole = regex.search(rf"(?<!\w){regex.escape(span)}(?!{extended})", text)
    return whole.start() if whole else text.find(span)
