"""Columns of raw rows: their texts, and the IDs of their labels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lora_tune.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

ROW = "__row__"  # the column with the row's number in its source


def read_texts(rows: "Dataset", column: str, *, where: str) -> list[str]:
    """Read the texts of a column.

    Args:
        rows: with the column ROW.
        column: of the texts.
        where: the split, for the error.

    Raises:
        DataError: a row has no text.
    """
    texts = list(rows[column])
    for number, text in zip(rows[ROW], texts, strict=True):
        problem = text_problem(text)
        if problem:
            raise DataError(
                f"{where}: column {column!r}, row {number} (rows count from 0): {problem}"
            )
    return texts


def class_label_names(rows: "Dataset", column: str) -> list[str] | None:
    """Return the names of a ClassLabel column, or of a column of lists of ClassLabels.

    Returns:
        The names in the order of their IDs; None for another column.
    """
    feature = rows.features[column]
    names = getattr(feature, "names", None) or getattr(
        getattr(feature, "feature", None), "names", None
    )
    return list(names) if names else None


def label_id(
    label: object, labels: Sequence[str], column_names: Sequence[str] | None
) -> int | None:
    """Convert a label of a row to its ID.

    Args:
        label: a name; or a number, which is an index into the names of the column if these are the
            recipe's labels in another order, and else an index into the recipe's labels.
        labels: the recipe's label names in the order of their IDs.
        column_names: the names of a ClassLabel column; None for another column.

    Returns:
        The ID, from 0; None where the label is not among the labels.
    """
    if isinstance(label, int) and not isinstance(label, bool):
        names = column_names if column_names and set(column_names) == set(labels) else labels
        if not 0 <= label < len(names):
            return None
        label = names[label]
    return list(labels).index(label) if isinstance(label, str) and label in labels else None


def text_problem(text: object) -> str | None:
    """Describe what is wrong with a text; None where it is valid."""
    if isinstance(text, str) and text.strip():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "contains a byte that is not UTF-8, or half of a surrogate pair; expected text"
        return None
    found = "nothing" if text is None or isinstance(text, str) else repr(text)
    return f"found {found}, expected text"
