"""Sentences of a CoNLL file: a word and its tag on each line, a blank line after each sentence."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from lora_tune.data.table import Record, Table, collect_table, encoding_problem
from lora_tune.data.text_file import open_text
from lora_tune.errors import DataError

DOCUMENT_START = "-DOCSTART-"  # the first cell of the line before a document


def read_conll(path: Path, name: str, encoding: str | None) -> Table:
    """Read a file's sentences into the columns `words` and `tags`, which are lists.

    The first cell of a line is the word, the last its tag. Cells are separated by tabs, or by
    spaces in a line without tabs.

    Args:
        path: of the file.
        name: of the file, for messages.
        encoding: of the recipe; None where it names none.

    Raises:
        DataError: the file is in another encoding, has no sentence, or a line has no tag.
    """
    opened = open_text(path, name, encoding)
    with opened.file as file:
        notes = [opened.note] if opened.note else []
        sentences = _sentences(file, name, opened.encoding)
        table = collect_table(sentences, name, columns=("words", "tags"), notes=notes)
    if not len(table):
        raise DataError(f"{name}: found no sentences")
    return table


def _sentences(file: TextIO, name: str, encoding: str) -> Iterator[Record]:
    words: list[str] = []
    tags: list[str] = []
    start = number = 0
    for number, line in enumerate(file, start=1):
        text = line.strip("\r\n")
        problem = encoding_problem(text, encoding)
        if problem:
            raise DataError(f"{name}: line {number}: {problem}")
        parts = text.split("\t") if "\t" in text else re.split(" +", text.strip(" "))
        cells = [cell.strip(" ") for cell in parts]
        if not any(cells) or cells[0] == DOCUMENT_START:
            if words:
                yield _sentence(start, words, tags)
            words, tags = [], []
        elif len(cells) < 2 or not cells[0] or not cells[-1]:
            raise DataError(f"{name}: line {number}: found {text!r}, expected a word and its tag")
        else:
            start = start if words else number
            words.append(cells[0])
            tags.append(cells[-1])
    if words:
        yield _sentence(start, words, tags)


def _sentence(line: int, words: list[str], tags: list[str]) -> Record:
    cells = {"words": words, "tags": tags}
    return Record(line, {key: json.dumps(own, ensure_ascii=False) for key, own in cells.items()})
