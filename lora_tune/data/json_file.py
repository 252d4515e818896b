"""json and jsonl files: a list of objects, or an object on each line; each object is a row."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from lora_tune.data.cell_text import Number, cell_text
from lora_tune.data.table import Record, Table, collect_table, encoding_problem
from lora_tune.data.text_file import open_text
from lora_tune.errors import DataError, first_line

SPACE_SAMPLE = 1 << 16  # characters in which a file begins
CHUNK = 1 << 20  # characters of a list that are read at once
SPACE = re.compile(r"[ \t\r\n]*")
KINDS = {dict: "an object", list: "a list", str: "a text", type(None): "null", bool: "a boolean"}
RAW_COLUMN = "text"  # of a line that is not an object


def read_json(path: Path, name: str, encoding: str | None) -> Table:
    """Read a list of objects, or an object on each line, whatever the extension.

    Args:
        path: of the file.
        name: of the file, for messages.
        encoding: of the recipe; None where it names none.

    Raises:
        DataError: the file is empty or in another encoding, or is no list and has no lines.
    """
    opened = open_text(path, name, encoding)
    with opened.file as file:
        start = SPACE.sub("", file.read(SPACE_SAMPLE), count=1)[:1]
        file.seek(0)
        records = _items_of_list(file, name) if start == "[" else _objects_on_lines(file, name)
        notes = [opened.note] if opened.note else []
        table = collect_table(records, name, notes=notes, encoding=opened.encoding)
    if not len(table):
        raise DataError(f"{name}: found no rows")
    return table


def _objects_on_lines(file: TextIO, name: str) -> Iterator[Record]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            value = DECODER.decode(line.strip(" \t\r\n"))
        except json.JSONDecodeError as error:
            if number == 1 and _spans_lines(line):
                raise DataError(
                    f"{name}: found one object over several lines, expected a list of objects, or "
                    "an object on each line (pandas: orient='records', lines=True)"
                ) from None
            problem = f"not JSON: {error.msg} at column {error.colno}"
            yield Record(number, {RAW_COLUMN: line.rstrip("\r\n")}, problem)
        except (ValueError, RecursionError) as error:
            problem = f"not usable: {first_line(error)}"
            yield Record(number, {RAW_COLUMN: line.rstrip("\r\n")}, problem)
        else:
            if number == 1 and _has_columns(value):
                raise DataError(
                    f"{name}: found one object of columns, expected a list of objects, or an "
                    "object on each line (pandas: orient='records', lines=True)"
                )
            yield _record(number, value)


def _has_columns(value: Any) -> bool:
    """Whether an object has a column in each value, as pandas writes a table by default."""
    return (
        isinstance(value, dict)
        and all(
            isinstance(column, dict)
            and list(column) == [str(i) for i in range(len(column))]
            and column
            for column in value.values()
        )
        and bool(value)
    )


def _spans_lines(line: str) -> bool:
    return line.strip() == "{" or line.rstrip().endswith(("{", "["))


def _items_of_list(file: TextIO, name: str) -> Iterator[Record]:
    """Read the items of a list without holding all of it in memory."""
    text, at, line, ended = file.read(CHUNK), 0, 1, False
    expects_item, is_first = False, True

    def skip_space() -> None:
        nonlocal text, at, line, ended
        while True:
            end = SPACE.match(text, at).end()  # type: ignore[union-attr]
            line += text.count("\n", at, end)
            at = end
            if at < len(text) or ended:
                return
            text, at = file.read(CHUNK), 0
            ended = not text

    def fail(message: str, place: int) -> DataError:
        found = line + text.count("\n", at, place)
        return DataError(f"{name}: line {found}: not JSON: {message}")

    skip_space()
    at += 1  # the opening bracket
    while True:
        skip_space()
        if at >= len(text):
            raise fail("the list is not closed", at)
        if text[at] == "]" and (is_first or not expects_item):
            at += 1
            break
        if not is_first and not expects_item:
            if text[at] != ",":
                raise fail("expected a comma or the end of the list", at)
            at, expects_item = at + 1, True
            continue
        while True:
            try:
                value, end = DECODER.raw_decode(text, at)
                break
            except (ValueError, RecursionError) as error:
                more = "" if ended else file.read(max(CHUNK, len(text) - at))
                if not more:
                    place = error.pos if isinstance(error, json.JSONDecodeError) else at
                    message = getattr(error, "msg", first_line(error))
                    raise fail(message, place) from None
                text, at = text[at:] + more, 0
        yield _record(line, value)
        line += text.count("\n", at, end)
        at, expects_item, is_first = end, False, False
    skip_space()
    if at < len(text):
        raise fail("found text after the end of the list", at)


def _record(line: int, value: Any) -> Record:
    if isinstance(value, dict) and any(map(encoding_problem, value)):
        key = next(key for key in value if encoding_problem(key))
        shown = key.encode(errors="backslashreplace").decode()
        return Record(line, {}, f"the key {shown!r:.60} is not valid text")
    if not isinstance(value, dict):
        kind = "a number" if isinstance(value, Number) else KINDS[type(value)]
        shown = value if isinstance(value, str) else json.dumps(value)
        return Record(line, {RAW_COLUMN: shown}, f"found {kind}, expected an object with columns")
    try:
        return Record(line, {name: cell_text(cell) for name, cell in value.items()})
    except ValueError as error:
        return Record(line, {}, first_line(error))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} occurs twice in an object; rename one of them")
    return found


def _constant(name: str) -> Number | None:
    return None if name == "NaN" else Number(name)


DECODER = json.JSONDecoder(
    parse_int=Number, parse_float=Number, parse_constant=_constant, object_pairs_hook=_object
)
