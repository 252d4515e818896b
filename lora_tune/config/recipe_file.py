"""Recipes found, read from YAML, merged with overrides and checked; the one user of OmegaConf.

OmegaConf reads YAML and overrides and resolves interpolations; pydantic checks keys and types (see
schema.py). All independent errors are reported together, one line each, within a second: nothing
heavier than these two libraries is imported.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from lora_tune.config.recipe import Recipe, Sections
from lora_tune.config.redaction import is_secret, remember_variable
from lora_tune.config.renamed_keys import move_renamed_keys
from lora_tune.config.schema import check_types, make_recipe
from lora_tune.config.validation import Problems
from lora_tune.errors import RecipeError, did_you_mean, first_line

PACKAGE = Path(__file__).parents[1]
# Where a recipe's name is looked up: here, in a source checkout, in an installed wheel.
RECIPE_FOLDERS = (Path("recipes"), PACKAGE.parent / "recipes", PACKAGE / "recipes")
COMMAND_LINE = "command line"
# The beginnings of the keys that are written into the files of an adapter.
KEYS_IN_ADAPTER = (
    *("model.", "lora.target", "lora.exclude", "lora.modules"),
    *("lora.rank_pattern", "lora.alpha_pattern"),
    *("data.labels", "data.prompt", "data.system", "data.chat_template"),
)
ENVIRONMENT_VARIABLE = re.compile(r"\$\{oc\.env:\s*([^,}\s]+)")


def recipe_names() -> list[str]:
    """List the recipes that can be run by name."""
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


def load_recipe(
    name: str,
    overrides: Sequence[str] = (),
    *,
    check: Callable[[Recipe], Problems] | None = None,
) -> Recipe:
    """Read a recipe, apply overrides, check every key and value.

    Args:
        name: a recipe's name in `recipes/`, or a path.
        overrides: `key=value` with a dotted key and a YAML value, such as `lora.rank=16`.
        check: a further check, such as that of the recipe's task; see `tasks/recipes.py`.

    Raises:
        RecipeError: with one line for each error.
    """
    path = find_recipe(name)
    return parse_recipe(_read(path), overrides, name=path.stem, where=str(path), check=check)


def parse_recipe(
    text: str,
    overrides: Sequence[str] = (),
    *,
    name: str,
    where: str,
    check: Callable[[Recipe], Problems] | None = None,
) -> Recipe:
    """Parse a recipe's YAML, apply overrides, check every key and value.

    Args:
        text: YAML.
        overrides: `key=value` with a dotted key and a YAML value, such as `lora.rank=16`.
        name: the recipe's name.
        where: the file that the text comes from, for messages.
        check: see `load_recipe`.

    Raises:
        RecipeError: with one line for each error.
    """
    given, origins, lines = _merge_sources(text, overrides, where)
    defaults = asdict(Sections())
    as_written = _merge(defaults, given)
    config = OmegaConf.create(as_written)
    leaves = dict(iterate_leaves(as_written))
    interpolated = {key for key, value in leaves.items() if "${" in str(value)}
    problems = list(_check_secrets(leaves))
    resolved = _resolve(config, defaults, problems)
    problems += check_types(resolved, hidden=interpolated)
    if not lines and not problems:
        recipe = make_recipe(
            resolved,
            name=name,
            source_as_written=_describe_source(as_written["data"]["source"]),
            text=OmegaConf.to_yaml(config),
        )
        problems = [*recipe.validate(), *(check(recipe) if check else ())]
    for key, message in problems:
        lines.append(_format_line(_find_origin(key, origins) or where, key, message))
    if lines:
        raise RecipeError("\n".join(dict.fromkeys(lines)))
    return recipe


def _merge_sources(
    text: str, overrides: Sequence[str], where: str
) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """Merge a recipe's YAML and its overrides, with renamed keys moved to their new names.

    Returns:
        The nested mapping; each dotted key that is set -> where it is set last, in the order in
        which they are set; a line for each renamed key and for each override that does not parse.

    Raises:
        RecipeError: the YAML does not parse.
    """
    sources = [(where, _parse_yaml(text, where))]
    lines: list[str] = []
    for override in overrides:
        try:
            sources.append((COMMAND_LINE, _parse_override(override)))
        except RecipeError as error:
            lines.append(str(error))
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, values in sources:
        for old, new in move_renamed_keys(values):
            lines.append(_format_line(origin, old, f"is now called {new}; rename the key"))
        for key, _ in iterate_leaves(values):
            origins.pop(key, None)
            origins[key] = origin
        merged = _merge(merged, values)
    return merged, origins, lines


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"{path}: {first_line(error)}") from None


def _parse_yaml(text: str, where: str) -> dict[Any, Any]:
    try:
        config = OmegaConf.load(StringIO(text))
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}:" if error.problem_mark else ""
        raise RecipeError(f"{where}:{line} {error.problem or error.context}") from None
    except (OmegaConfBaseException, yaml.YAMLError, OSError) as error:
        raise RecipeError(f"{where}: {first_line(error)}") from None
    if not isinstance(config, DictConfig):
        raise RecipeError(f"{where}: found a list, expected a mapping of recipe keys")
    return _to_dict(config)


def _parse_override(override: str) -> dict[Any, Any]:
    where = f"{COMMAND_LINE}: {override}"
    if "=" not in override:
        raise RecipeError(f"{where}: expected key=value, such as lora.rank=16")
    try:
        return _to_dict(OmegaConf.from_dotlist([override]))
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise RecipeError(f"{where}: {first_line(error)}") from None


def _to_dict(config: DictConfig) -> dict[Any, Any]:
    """Convert to plain containers, with interpolations as they are written."""
    values = OmegaConf.to_container(config)
    assert isinstance(values, dict)
    return values


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merge two nested mappings; where both have a value, that of `above` is taken."""
    merged = dict(below)
    for key, value in above.items():
        old = below.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            value = _merge(old, value)
        merged[key] = value
    return merged


def _describe_source(source: Any) -> str:
    """Describe `data.source` as one text; a file for each class as `class: file, class: file`."""
    if isinstance(source, dict):
        return ", ".join(f"{label}: {file}" for label, file in source.items())
    return str(source)


def iterate_leaves(mapping: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of each leaf of a nested mapping."""
    for key, value in mapping.items():
        if isinstance(value, dict) and value:
            yield from iterate_leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _resolve(
    config: Any, defaults: dict[str, Any], problems: list[tuple[str, str]], prefix: str = ""
) -> dict[str, Any]:
    """Resolve all interpolations, and leave out the keys that cannot be resolved.

    Args:
        config: a recipe, or a section of it.
        defaults: the defaults of its keys.
        problems: the list to append a problem to for each key that cannot be resolved.
        prefix: the dotted key of the section, with a dot at its end.
    """
    resolved = {}
    for key in config:
        default, name = defaults.get(key), f"{prefix}{key}"
        if isinstance(default, dict) and default and OmegaConf.is_interpolation(config, key):
            problems.append((name, "is a section, so it cannot be an interpolation"))
            continue
        try:
            value = config[key]
            if isinstance(value, DictConfig):
                inner = default if isinstance(default, dict) else {}
                value = _resolve(value, inner, problems, f"{name}.")
            elif OmegaConf.is_config(value):
                value = OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
            resolved[key] = value
        except MissingMandatoryValue:
            hint = f"is required: give it in the recipe, or as {name}=... on the command line"
            problems.append((name, hint))
        except OmegaConfBaseException as error:
            problems.append((name, f"cannot be resolved: {first_line(error)}"))
    return resolved


def _check_secrets(leaves: dict[str, Any]) -> Problems:
    """Yield secrets that would get into an adapter; remember the others, to redact all output."""
    for key, value in leaves.items():
        for name in ENVIRONMENT_VARIABLE.findall(str(value)):
            if not key.startswith(KEYS_IN_ADAPTER):
                remember_variable(name)
            elif is_secret(name):
                yield key, f"is written into the adapter, so it cannot come from the secret {name}"


def _find_origin(key: str, origins: dict[str, str]) -> str | None:
    """Find where a key, or a key below it, is set last."""
    found = (k for k in reversed(origins) if f"{k}.".startswith(f"{key}."))
    return next((origins[k] for k in found), None)


def _format_line(origin: str, key: str, message: str) -> str:
    separator = ": " if message.startswith("found ") else " "
    return f"{origin}: {key}{separator}{message}"
