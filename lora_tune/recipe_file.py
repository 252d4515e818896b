"""From a YAML file and dotted overrides to a Recipe, with every fault named; alone knows OmegaConf.

All independent faults are collected and raised together, one line each. Nothing heavier than
OmegaConf is imported on the way.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, is_dataclass
from io import StringIO
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from lora_tune.errors import RecipeError, first_line
from lora_tune.recipe import Recipe, Sections
from lora_tune.redaction import is_secret, remember_variable
from lora_tune.suggestions import did_you_mean
from lora_tune.training_fields import REFUSED_FIELDS, training_fields

PACKAGE = Path(__file__).parent
# Where a recipe's bare name is looked for: here, in a source checkout, in an installed wheel.
RECIPE_FOLDERS = (Path("recipes"), PACKAGE.parent / "recipes", PACKAGE / "recipes")
COMMAND_LINE = "command line"
MAPPINGS = ("lora.rank_pattern", "lora.alpha_pattern")
# An adapter's files need them.
WRITTEN_KEYS = (
    *("model.", "lora.target", "lora.exclude", "lora.modules", *MAPPINGS),
    *("data.labels", "data.prompt", "data.system", "data.chat_template"),
)
ENVIRONMENT_VARIABLE = re.compile(r"\$\{oc\.env:\s*([^,}\s]+)")


def recipe_names() -> list[str]:
    """Name the recipes that can be run by name."""
    return sorted({path.stem for folder in RECIPE_FOLDERS for path in folder.glob("*.yaml")})


def find_recipe(name: str) -> Path:
    """Find a recipe by path or by name.

    Raises:
        RecipeError: there is no such file.
    """
    if name.endswith((".yaml", ".yml")) or "/" in name:
        if Path(name).is_file():
            return Path(name)
        raise RecipeError(f"{name}: no such recipe file (looked from {Path.cwd()})")
    for folder in RECIPE_FOLDERS:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    names = recipe_names()
    hint = did_you_mean(name, names) or f"; recipes are {', '.join(names)}, or give a path"
    raise RecipeError(f"{name}: no recipe of that name{hint}")


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, apply overrides, check every key and value.

    Args:
        name: a recipe's name in `recipes/`, or a path.
        overrides: `key=value` with a dotted key and a YAML value, such as `lora.rank=16`.

    Raises:
        RecipeError: one line for every fault.
    """
    path = find_recipe(name)
    return parse_recipe(_read(path), overrides, name=path.stem, where=str(path))


def parse_recipe(text: str, overrides: Sequence[str] = (), *, name: str, where: str) -> Recipe:
    """Parse a recipe's YAML, apply overrides, check every key and value.

    Args:
        where: it comes from, for the errors.

    Raises:
        RecipeError: one line for every fault.
    """
    faults: list[str] = []
    merged = OmegaConf.create(asdict(Sections()))
    origins: dict[str, str] = {}  # dotted key -> where it was set
    for origin, config in [(where, _parse_yaml(text, where)), *_parse(overrides, faults)]:
        for key, value in _leaves(OmegaConf.to_container(config)):
            fault = _key_fault(key, value)
            if fault:
                faults.append(f"{origin}: {fault}")
            elif value != {} or not is_dataclass(_hint(key)):
                origins[key] = origin
                OmegaConf.update(merged, key, value, force_add=True)
    for key, value in _leaves(OmegaConf.to_container(merged)):
        faults += [f"{origins[key]}: {fault}" for fault in _secret_faults(key, str(value))]
        fault = _resolved_fault(merged, key)
        if fault:
            faults.append(f"{origins.get(key, where)}: {key}{fault}")
    if not faults:
        sections = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Sections), merged))
        recipe = Recipe(
            **vars(sections),
            name=name,
            source_as_written=dict(_leaves(OmegaConf.to_container(merged)))["data.source"],
            text=OmegaConf.to_yaml(merged),
        )
        faults = [f"{origins.get(key, where)}: {key} {wrong}" for key, wrong in recipe.faults()]
    if faults:
        raise RecipeError("\n".join(dict.fromkeys(faults)))
    return recipe


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"{path}: {first_line(error)}") from None


def _parse_yaml(text: str, where: str) -> DictConfig:
    try:
        config = OmegaConf.load(StringIO(text))
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}:" if error.problem_mark else ""
        raise RecipeError(f"{where}:{line} {error.problem or error.context}") from None
    except (OmegaConfBaseException, yaml.YAMLError, OSError) as error:
        raise RecipeError(f"{where}: {first_line(error)}") from None
    if not isinstance(config, DictConfig):
        raise RecipeError(f"{where}: found a list, expected a mapping of recipe keys")
    return config


def _parse(overrides: Sequence[str], faults: list[str]) -> Iterator[tuple[str, DictConfig]]:
    for override in overrides:
        if "=" not in override:
            faults.append(f"{COMMAND_LINE}: {override}: expected key=value, such as lora.rank=16")
            continue
        try:
            yield COMMAND_LINE, OmegaConf.from_dotlist([override])
        except (OmegaConfBaseException, yaml.YAMLError) as error:
            faults.append(f"{COMMAND_LINE}: {override}: {first_line(error)}")


def _leaves(section: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of a nested dict; a dict that is a key's value is left whole."""
    for key, value in section.items():
        whole = prefix == "training." or f"{prefix}{key}" in MAPPINGS
        if isinstance(value, dict) and value and not whole:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _hint(key: str) -> Any:
    """The type that a dotted key takes: a type hint, or an annotation's text below `training`."""
    hint: Any = Sections
    for part in key.split("."):
        if hint is Sections and part == "training":
            return training_fields().get(key.partition(".")[2], "")
        hint = get_type_hints(hint)[part] if is_dataclass(hint) else None
    return hint


def _key_fault(key: str, value: Any) -> str | None:
    hint: Any = Sections
    parent = ""
    for part in key.split("."):
        if hint is Sections and part == "training" and "." in key:
            return _training_key_fault(key.partition(".")[2])
        if not is_dataclass(hint):
            return f"{key}: {parent[:-1]} is a single value, not a section"
        names = [field.name for field in fields(hint)]
        if part not in names:
            near = did_you_mean(part, names, prefix=parent)
            return f"{parent}{part} is not a recipe key{near or '; there are ' + ', '.join(names)}"
        parent += f"{part}."
        hint = get_type_hints(hint)[part]
    if (is_dataclass(hint) or key == "training") and value != {}:
        return f"{key}: found {_show(value)}, expected a section with keys of its own"
    return None


def _training_key_fault(name: str) -> str | None:
    if name in REFUSED_FIELDS:
        return f"training.{name} cannot be set: {REFUSED_FIELDS[name]}"
    if name in training_fields():
        return None
    return (
        f"training.{name} is not a field of transformers.TrainingArguments"
        f"{did_you_mean(name, training_fields(), prefix='training.')}"
    )


KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _secret_faults(key: str, value: str) -> Iterator[str]:
    """Keep what a key reads from the environment out of all output, but for what loads a model."""
    for name in ENVIRONMENT_VARIABLE.findall(value):
        if not key.startswith(WRITTEN_KEYS):
            remember_variable(name)
        elif is_secret(name):
            yield f"{key} is written into the adapter, so it cannot come from the secret {name}"


def _resolved_fault(merged: DictConfig, key: str) -> str | None:
    try:
        value = OmegaConf.select(merged, key, throw_on_missing=True)
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value, resolve=True)
    except MissingMandatoryValue:
        return f" is required: give it in the recipe, or as {key}=... on the command line"
    except OmegaConfBaseException as error:
        return f": {first_line(error)}"
    fault = _value_fault(value, _hint(key))
    if fault and OmegaConf.is_interpolation(*_parent(merged, key)):
        fault = f"what its interpolation stands for is not {fault.partition('expected ')[2]}"
    return f": {fault}" if fault else None


def _parent(merged: DictConfig, key: str) -> tuple[DictConfig, str]:
    """The section that holds a dotted key, and the key's last part."""
    section, _, name = key.rpartition(".")
    return (OmegaConf.select(merged, section) if section else merged), name


def _value_fault(value: Any, hint: Any) -> str | None:
    """Say what is wrong with a value for a type hint, or None."""
    if isinstance(hint, str):
        named = {"int": int, "float": float, "str": str, "bool": bool, "None": NoneType}
        parts = hint.split(" | ")
        if not all(part in named for part in parts):
            if isinstance(value, float) and not math.isfinite(value):
                return f"found {value}, expected a finite number"
            if isinstance(value, bool) and "bool" not in hint:
                return f"found {_show(value)}, expected text; in YAML, quote it, such as 'no'"
            return None  # an enum or a mapping: TrainingArguments checks it
        options: tuple[Any, ...] = tuple(named[part] for part in parts)
    else:
        options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if any(_fits(value, option) for option in options):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return f"found {value}, expected a finite number"
    expected = " or ".join(_name(option) for option in options)
    quote = ""
    if str in options and isinstance(value, (bool, int, float)):
        quote = f"; in YAML, quote it: '{value}'"
    elif list[str] in options and isinstance(value, list):
        quote = "; in YAML, quote what reads as a number or as true or false"
    return f"found {_show(value)}, expected {expected}{quote}"


def _fits(value: Any, option: Any) -> bool:
    if option is Any:
        return True
    if get_origin(option) is Literal:
        return value in get_args(option)
    if get_origin(option) is list:
        return isinstance(value, list) and all(_fits(item, get_args(option)[0]) for item in value)
    if get_origin(option) is dict:
        key, kind = get_args(option)
        return isinstance(value, dict) and all(
            _fits(k, key) and _fits(v, kind) for k, v in value.items()
        )
    if isinstance(value, bool):
        return option is bool
    if option is float:
        return isinstance(value, (int, float)) and math.isfinite(value)
    return isinstance(value, option)


def _name(option: Any) -> str:
    if get_origin(option) is Literal:
        return " or ".join(str(choice) for choice in get_args(option))
    if get_origin(option) is list:
        return f"a list of {_name(get_args(option)[0])}"
    if get_origin(option) is dict:
        return "a mapping of {} to {}".format(*map(_name, get_args(option)))
    return "null" if option is NoneType else KINDS[option]


def _show(value: Any) -> str:
    kind = "null" if value is None else KINDS.get(type(value), type(value).__name__)
    return "null" if value is None else f"{value!r} ({kind})"
