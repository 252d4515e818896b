"""Lists in cells: read from the text that JSON, Python, pandas or numpy write for them."""

import ast
import json
import re
import warnings
from typing import Any

PAIRS = {"[": "]", "(": ")", "{": "}"}
CLOSING = frozenset(PAIRS.values())
TOKEN = re.compile(
    r"""\s*(?:
    (?P<string>'[^'\\]*(?:\\.[^'\\]*)*' | "[^"\\]*(?:\\.[^"\\]*)*")
    | (?P<number>-?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<constant>(?:True|False|None|nan)(?!\w))
    | (?P<mark>[][(){},:])
    )""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)


def parse_list(text: str) -> list[Any] | None:
    """Read a list from its text.

    These are lists: JSON (`["a", "b"]`), a list, tuple or set as Python and pandas print it
    (`['a', 'b']`, `('a', 'b')`, `{'a', 'b'}`, `set()`), and an array as numpy prints it (`[1 0 1]`,
    `['a' 'b']`, or mappings with spaces between them). Only literals are read; no code is run.

    Args:
        text: of a cell.

    Returns:
        The items. Strings are as they are; numbers, `true` and `False` are the text they are
        written with, such as `"1.0"`; `null`, `None` and NaN are None; lists and mappings within
        the list have Python's values. None where the text is not a list.
    """
    text = text.strip()
    if text == "set()":  # an empty set
        return []
    if len(text) < 2 or PAIRS.get(text[0]) != text[-1]:
        return None
    try:
        return _parse_json(text) if text[0] == "[" else _parse_python(text)
    except json.JSONDecodeError:
        return _parse_python(text)
    except (ValueError, RecursionError):  # too long a number, too deep a nesting
        return None


def _parse_json(text: str) -> list[Any]:
    items: list[Any] = json.loads(text)
    if not any(isinstance(item, int | float) for item in items):
        return items
    # Once more, with numbers as they are written. NaN and Infinity are no JSON: they are missing.
    written = json.loads(text, parse_int=str, parse_float=str, parse_constant=lambda _: None)
    for number, item in enumerate(items):
        if isinstance(item, bool):
            items[number] = json.dumps(item)
        elif isinstance(item, int | float):
            items[number] = written[number]
    return items


def _parse_python(text: str) -> list[Any] | None:
    literal = _list_literal(text)
    if literal is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes that Python does not know, such as \d
            items: list[Any] = ast.literal_eval(literal)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return items


def _list_literal(text: str) -> str | None:
    """Rewrite a list, tuple, set or array as Python's literal of a list, whose numbers are strings.

    Returns:
        None where the text is something else.
    """
    parts: list[str] = []
    position = depth = commas = spaces = 0
    after_value = False
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            return None
        kind = str(match.lastgroup)
        word, position = match[kind], match.end()
        if after_value and (kind != "mark" or word in PAIRS):
            # Between items, numpy prints spaces alone. Python would join two strings.
            if match.start(kind) == match.start():
                return None
            spaces += depth == 1
            parts.append(",")
        depth -= word in CLOSING
        if depth == 0 and kind == "mark":
            word = "[" if word in PAIRS else "]"
            if word == "]" and position < len(text):
                return None
        elif depth == 1 and kind in ("number", "constant"):
            word = repr(word) if word not in ("None", "nan") else "None"
        elif word == "nan":
            word = "None"
        commas += depth == 1 and word == ","
        depth += match[kind] in PAIRS
        after_value = kind != "mark" or match[kind] in CLOSING
        parts.append(word)
    if text == "{}" or (text[0] == "(" and text != "()" and not commas):
        return None  # an empty mapping, or a value in parentheses
    if spaces and (commas or text[0] != "["):
        return None
    return "".join(parts)
