"""Sentences of a CoNLL file: a word and its tag on each line, a blank line after each sentence."""

from pathlib import Path
from typing import TYPE_CHECKING

from lora_tune.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

DOCUMENT = "-DOCSTART-"  # what stands for a word where a document begins


def read_conll(path: Path) -> "Dataset":
    """Read a file's sentences into the columns `words` and `tags`.

    The first cell of a line is the word, the last its tag; cells are parted by tabs or, where
    there are none, by spaces.

    Raises:
        DataError: the file is not UTF-8, or a line has no tag.
    """
    import datasets

    sentences: list[tuple[list[str], list[str]]] = [([], [])]
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
        except UnicodeDecodeError as fault:
            raise DataError(f"{path}: line {number}: not UTF-8 at byte {fault.start}") from None
        cells = [cell.strip() for cell in text.split("\t" if "\t" in text else None)]
        if not any(cells) or cells[0] == DOCUMENT:
            sentences.append(([], []))
        elif len(cells) < 2 or not cells[0] or not cells[-1]:
            raise DataError(f"{path}: line {number}: found {text!r}, expected a word and its tag")
        else:
            sentences[-1][0].append(cells[0])
            sentences[-1][1].append(cells[-1])
    kept = [sentence for sentence in sentences if sentence[0]]
    columns = {"words": [words for words, _ in kept], "tags": [tags for _, tags in kept]}
    return datasets.Dataset.from_dict(columns)
