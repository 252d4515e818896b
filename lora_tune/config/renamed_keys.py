"""Recipe keys that were renamed, and the move of their values to the new keys."""

from typing import Any

# Dotted old key -> dotted new key.
RENAMED_KEYS = {"ladder": "baselines"}


def move_renamed_keys(recipe: dict[str, Any]) -> list[tuple[str, str]]:
    """Move the values of renamed keys to the new keys, in place; values already there stay.

    Args:
        recipe: the nested mapping of a recipe file, or of an override.

    Returns:
        The dotted old and new name of each renamed key that was found.
    """
    found = []
    for old, new in RENAMED_KEYS.items():
        section, name = _section_of(recipe, old)
        if name in section:
            value = section.pop(name)
            section, name = _section_of(recipe, new, create=True)
            section.setdefault(name, value)
            found.append((old, new))
    return found


def _section_of(
    recipe: dict[str, Any], key: str, *, create: bool = False
) -> tuple[dict[str, Any], str]:
    """Find the mapping that holds a dotted key, and the last part of the key."""
    *sections, name = key.split(".")
    mapping = recipe
    for section in sections:
        inner = mapping.setdefault(section, {}) if create else mapping.get(section)
        mapping = inner if isinstance(inner, dict) else {}
    return mapping, name
