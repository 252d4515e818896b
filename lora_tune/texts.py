"""Texts of a column of raw rows, each of them checked."""

from typing import TYPE_CHECKING

from lora_tune.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

ROW = "__row__"  # a column for the place of a row in its source


def read_texts(rows: "Dataset", column: str, *, where: str) -> list[str]:
    """Read a column's texts.

    Args:
        rows: with their places in the column ROW.
        where: the split, for the error.

    Raises:
        DataError: a row has none.
    """
    texts = list(rows[column])
    for place, text in zip(rows[ROW], texts, strict=True):
        fault = text_fault(text)
        if fault:
            raise DataError(f"{where}: column {column!r}, row {place} (rows count from 0): {fault}")
    return texts


def text_fault(text: object) -> str | None:
    """Say what is wrong with what should be a text, or None."""
    if isinstance(text, str) and text.strip():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "holds a byte that is not UTF-8, or half of a cut emoji; expected text"
        return None
    found = "nothing" if text is None or isinstance(text, str) else repr(text)
    return f"found {found}, expected text"
