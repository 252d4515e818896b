"""The columns that a row's texts are made of: one column, or a template of several."""

from collections.abc import Mapping
from string import Formatter
from typing import Any

from lora_tune.errors import DataError


def named_columns(*templates: str | None) -> list[str]:
    """List the columns that templates name in braces, without repetition, in their order."""
    parts = (part for template in templates for part in Formatter().parse(template or ""))
    return list(dict.fromkeys(name for _, name, _, _ in parts if name is not None))


def fill_template(template: str | None, row: Mapping[str, Any]) -> str:
    """Replace the column names in a template by a row's values; null becomes an empty string.

    Braces in the values are not replaced.
    """
    parts = Formatter().parse(template or "")
    return "".join(
        text + ("" if name is None else str(row[name] if row[name] is not None else ""))
        for text, name, _, _ in parts
    )


def text_columns(text: str) -> list[str]:
    """List the columns of a recipe's text: those of a template, or the column that it names."""
    return named_columns(text) or [text]


def fill_text(text: str, row: Mapping[str, Any]) -> Any:
    """Take a row's text: a filled template, or the cell of the column.

    Raises:
        DataError: there is no text; the message does not say which row it is.
    """
    is_template = bool(named_columns(text))
    found = fill_template(text, row) if is_template else row[text]
    if is_template and not any(str(row[name] or "").strip() for name in named_columns(text)):
        found = None
    problem = text_problem(found)
    if problem:
        raise DataError(problem)
    return found


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
