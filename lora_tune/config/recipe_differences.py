"""The keys in which recipes differ."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml


def find_differences(recipes: Sequence[str]) -> dict[str, list[Any]]:
    """Find the keys whose values differ between recipes.

    Args:
        recipes: their YAML.

    Returns:
        Key, such as `lora.rank` -> its value in each recipe; None where a recipe lacks it.
    """
    flat = [dict(_flatten(yaml.safe_load(text) or {})) for text in recipes]
    keys = dict.fromkeys(key for own in flat for key in own)
    values = {key: [own.get(key) for own in flat] for key in keys}
    return {key: found for key, found in values.items() if any(v != found[0] for v in found)}


def _flatten(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
