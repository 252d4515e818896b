"""Texts of a column of raw rows, each of them checked."""

from collections.abc import Sequence
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


def own_names(rows: "Dataset", column: str) -> list[str] | None:
    """Name what a column's numbers, or lists of them, count by its ClassLabel; None: none."""
    feature = rows.features[column]
    names = getattr(feature, "names", None) or getattr(
        getattr(feature, "feature", None), "names", None
    )
    return list(names) if names else None


def number_of(label: object, labels: Sequence[str], own: Sequence[str] | None) -> int | None:
    """Number a label: by its name, or as a number of the column's own names, or of the labels.

    Args:
        labels: in the order of their numbers.
        own: names that the column's numbers count; None where it has none.

    Returns:
        The number, from 0; None where it is not among the labels.
    """
    if isinstance(label, int) and not isinstance(label, bool):
        names = own if own and set(own) == set(labels) else labels
        if not 0 <= label < len(names):
            return None
        label = names[label]
    return list(labels).index(label) if isinstance(label, str) and label in labels else None


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
