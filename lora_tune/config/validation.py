"""Problems of recipe values: the checks that the sections of a recipe share."""

from collections.abc import Iterator

# What `validate()` yields: the dotted key below its section, and what is wrong with the value.
Problems = Iterator[tuple[str, str]]


def check_minimum(key: str, value: float | None, minimum: float) -> Problems:
    """Yield a problem if a value is set and is below its minimum."""
    if value is not None and value < minimum:
        yield key, f"must be >= {minimum}, got {value}"


def check_positive(key: str, value: float | None) -> Problems:
    """Yield a problem if a value is set and is zero or negative."""
    if value is not None and value <= 0:
        yield key, f"must be above 0, got {value}"


def check_dropout(key: str, value: float | None) -> Problems:
    """Yield a problem if a dropout probability is set and is outside [0, 1)."""
    if value is not None and not 0 <= value < 1:
        yield key, f"must be at least 0 and below 1, got {value}"


def check_proportion(key: str, value: float | None) -> Problems:
    """Yield a problem if a proportion is set and is outside (0, 1)."""
    if value is not None and not 0 < value < 1:
        yield key, f"must be above 0 and below 1, got {value}"


def check_seed(key: str, value: int) -> Problems:
    """Yield a problem if a random seed is outside what NumPy and torch both accept."""
    if not 0 <= value < 2**32:
        yield key, f"must be at least 0 and below 2**32, got {value}"
