"""The keys in which recipes differ."""

from collections.abc import Sequence
from typing import Any

import yaml

from lora_tune.config.recipe_file import iterate_leaves


def find_differences(recipes: Sequence[str]) -> dict[str, list[Any]]:
    """Find the keys whose values differ between recipes.

    Args:
        recipes: their YAML.

    Returns:
        Key, such as `lora.rank` -> its value in each recipe; None where a recipe lacks it.
    """
    flat = [dict(iterate_leaves(yaml.safe_load(text) or {})) for text in recipes]
    keys = dict.fromkeys(key for own in flat for key in own)
    values = {key: [own.get(key) for own in flat] for key in keys}
    return {key: found for key, found in values.items() if any(v != found[0] for v in found)}
