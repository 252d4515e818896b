"""The check of a recipe's keys and types, with pydantic in strict mode.

pydantic reports all wrong keys and types at once and converts nothing silently. The structured
configs of OmegaConf raise at the first error, and read the text `'4'` as a number, 1 as true, and
the label `no` as the text `False`.

The dataclasses of the sections stay plain, so that only this module imports pydantic. A model is
made from each of them because strict mode accepts a mapping for a model, but not for a dataclass.
"""

from collections.abc import Container
from dataclasses import is_dataclass
from functools import cache, reduce
from operator import getitem
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model

from lora_tune.config.recipe import Recipe, Sections
from lora_tune.config.training import REFUSED_FIELDS, training_fields
from lora_tune.config.validation import Problems
from lora_tune.errors import did_you_mean

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    NoneType: "null",
    list: "a list",
    dict: "a mapping",
    Any: "any value",
}
LIST_ITEMS = {int: "whole numbers", float: "numbers", str: "text"}
NEEDS_QUOTES = "; in YAML, text such as 7 or no needs quotes"


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def check_types(values: dict[str, Any], *, hidden: Container[str] = ()) -> Problems:
    """Yield each unknown key and each value of a wrong type, by dotted key.

    Args:
        values: the nested mapping of a whole recipe, with interpolations resolved.
        hidden: the dotted keys whose values must not be shown, because they may be secret.
    """
    try:
        _schema().model_validate(values)
    except ValidationError as error:
        messages: dict[str, str] = {}
        for detail in error.errors(include_url=False):
            key, message = _describe_error(detail, values, hidden)
            # A union has an error for each of its types; an infinite number is the closest one.
            if key not in messages or detail["type"] == "finite_number":
                messages[key] = message
        yield from messages.items()


def make_recipe(values: dict[str, Any], *, name: str, source_as_written: str, text: str) -> Recipe:
    """Make a recipe from values in which `check_types` finds nothing wrong."""
    origin = {"name": name, "source_as_written": source_as_written, "text": text}
    return TypeAdapter(Recipe).validate_python(values | origin)


def describe_type(hint: Any) -> str:
    """Describe a type in the words of a recipe, such as `a list of text or null`."""
    arguments = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        null_last = sorted(arguments, key=lambda argument: argument is NoneType)
        return " or ".join(describe_type(argument) for argument in null_last)
    if get_origin(hint) is Literal:
        *others, last = map(str, arguments)
        return f"{', '.join(others)} or {last}" if others else last
    if get_origin(hint) is list:
        return f"a list of {LIST_ITEMS.get(arguments[0], 'any values')}"
    if get_origin(hint) is dict:
        return "a mapping of {} to {}".format(*map(describe_type, arguments))
    return TYPE_NAMES.get(hint, "a section with keys below it")


@cache
def _schema() -> type[BaseModel]:
    types = {name: hint for name, hint in training_fields().items() if name not in REFUSED_FIELDS}
    return _make_model(Sections, training=_model_of_types("training", types))


def _make_model(section: Any, **replaced: Any) -> type[BaseModel]:
    """Make a model of a dataclass, and of the dataclasses in it."""
    types = get_type_hints(section) | replaced
    nested = {
        name: _make_model(hint) if is_dataclass(hint) else hint for name, hint in types.items()
    }
    return _model_of_types(section.__name__, nested)


def _model_of_types(name: str, types: dict[str, Any]) -> type[BaseModel]:
    fields: dict[str, Any] = {key: (hint, None) for key, hint in types.items()}  # all optional
    return create_model(name, __base__=_Section, **fields)


def _describe_error(
    detail: "ErrorDetails", values: dict[str, Any], hidden: Container[str]
) -> tuple[str, str]:
    """Describe an error that pydantic found, as dotted key and message."""
    model: Any = _schema()
    path: tuple[Any, ...] = ()
    for part in detail["loc"]:
        path = (*path, part)
        if part not in model.model_fields:
            return ".".join(map(str, path)), _describe_unknown_key(path, list(model.model_fields))
        hint = model.model_fields[part].annotation
        if not (isinstance(hint, type) and issubclass(hint, BaseModel)):
            break  # what follows is inside the value
        model = hint
    key = ".".join(path)
    value: Any = reduce(getitem, path, values)
    if detail["type"] == "finite_number":
        return key, f"found {detail['input']}, expected a finite number"
    expected = describe_type(hint)
    if key in hidden:
        return key, f"has an interpolated value that is not {expected}"
    return key, f"found {_show(value)}, expected {expected}{_suggest(value, hint)}"


def _describe_unknown_key(path: tuple[Any, ...], known: list[str]) -> str:
    *parents, name = path
    prefix = "".join(f"{parent}." for parent in parents)
    near = did_you_mean(str(name), known, prefix=prefix)
    if prefix != "training.":
        return f"is not a recipe key{near or '; there are ' + ', '.join(known)}"
    if name in REFUSED_FIELDS:
        return f"cannot be set: {REFUSED_FIELDS[name]}"
    return f"is not a field of transformers.TrainingArguments{near}"


def _suggest(value: Any, hint: Any) -> str:
    """Suggest one of the choices, or quotes."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if isinstance(value, str):
        literals = [option for option in options if get_origin(option) is Literal]
        return did_you_mean(value, [str(choice) for o in literals for choice in get_args(o)])
    needs_quotes = (str in options and isinstance(value, (bool, int, float))) or (
        list[str] in options and isinstance(value, list)
    )
    return NEEDS_QUOTES if needs_quotes else ""


def _show(value: Any) -> str:
    return "null" if value is None else f"{value!r} ({TYPE_NAMES.get(type(value), 'unknown')})"
