"""Sentences of a CoNLL file: a word and its tag on each line, a blank line after each sentence."""

from pathlib import Path
from typing import TYPE_CHECKING

from lora_tune.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

DOCUMENT_START = "-DOCSTART-"  # the first cell of the line before a document


def read_conll(path: Path) -> "Dataset":
    """Read a file's sentences into the columns `words` and `tags`.

    The first cell of a line is the word, the last its tag. Cells are separated by tabs, or by
    spaces in a line without tabs.

    Raises:
        DataError: the file is not UTF-8, or a line has no tag.
    """
    import datasets

    sentences: list[tuple[list[str], list[str]]] = [([], [])]
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
        except UnicodeDecodeError as cause:
            raise DataError(
                f"{path}: line {number}: not UTF-8 at byte {cause.start}; save the file as UTF-8"
            ) from None
        cells = [cell.strip() for cell in text.split("\t" if "\t" in text else None)]
        if not any(cells) or cells[0] == DOCUMENT_START:
            sentences.append(([], []))
        elif len(cells) < 2 or not cells[0] or not cells[-1]:
            raise DataError(f"{path}: line {number}: found {text!r}, expected a word and its tag")
        else:
            words, tags = sentences[-1]
            words.append(cells[0])
            tags.append(cells[-1])
    kept = [sentence for sentence in sentences if sentence[0]]
    columns = {"words": [words for words, _ in kept], "tags": [tags for _, tags in kept]}
    return datasets.Dataset.from_dict(columns)
