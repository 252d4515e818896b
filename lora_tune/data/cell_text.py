"""Values of typed formats as text: one rule for json, parquet, Excel workbooks and Hub datasets.

- Text is as it is. An empty text, null and NaN are None: the cell is missing.
- A number in JSON is as it is written; a whole number of a typed format is its digits; another
  number is the shortest text that gives the same number again, such as 2.0 or 0.1.
- A boolean is true or false. Lists and objects are JSON, with a space after each comma and colon
  and all characters as they are.
- A date is 2023-05-02, a time 09:30:00, both together 2023-05-02 09:30:00 (ISO 8601).
- A number that stands for a class of a Hub dataset (ClassLabel) is the name of the class; -1, which
  stands for none, is None.
- Bytes are UTF-8 text.
"""

import datetime
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np


class Number(str):
    """A number in JSON as it is written."""

    __slots__ = ()


def cell_text(value: Any) -> str | None:
    """Format a value as the text of a cell; None where it is missing.

    Raises:
        ValueError: the value has no text, such as bytes that are not UTF-8.
    """
    if value is None or isinstance(value, str):
        return str(value) if value else None
    if isinstance(value, (list, tuple, Mapping, np.ndarray)):
        return to_json(value)
    return _scalar_text(value)


def to_json(value: Any) -> str:
    """Format lists, objects and what they hold as JSON, like `json.dumps(ensure_ascii=False)`.

    Raises:
        ValueError: a value in it has no text, or it is nested too deeply.
    """
    try:
        return _json(value)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _json(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(str(k), ensure_ascii=False)}: {_json(v)}" for k, v in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, (list, tuple, np.ndarray)):
        return "[" + ", ".join(map(_json, value)) + "]"
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    text = _scalar_text(value)
    if text is None:
        return "null"
    return text if isinstance(value, (bool, int, float, np.number)) else json.dumps(text)


def _scalar_text(value: Any) -> str | None:
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if value is None or (isinstance(value, (float, np.floating)) and math.isnan(value)):
        return None
    if isinstance(value, np.floating):  # float32 0.1 is 0.1, not 0.10000000149011612
        return np.format_float_positional(value, trim="0") if abs(value) < 1e16 else str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, (int, np.integer, Decimal)):
        return str(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode() or None  # UnicodeDecodeError is a ValueError
    return str(value) or None
