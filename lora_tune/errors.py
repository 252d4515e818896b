"""Errors a user can fix: each says where, what was found, what is allowed and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class LoraTuneError(Exception):
    """An error that the user can fix; the command line shows its message and exits with code 2."""


class RecipeError(LoraTuneError):
    """A recipe or an override has a wrong key, type or value."""


class DataError(LoraTuneError):
    """Rows cannot be found, read or labeled."""


class RowError(DataError):
    """One of several rows cannot be encoded."""

    def __init__(self, row: int, error: str) -> None:
        super().__init__(error)
        self.row = row  # its index among the rows that were passed


class ModelError(LoraTuneError):
    """A base model cannot be found, is not what it claims to be, or does not fit the recipe."""


class ArtifactError(LoraTuneError):
    """An adapter or run directory is missing, incomplete, or in the way."""


def first_line(error: BaseException) -> str:
    """What a library's error says, cut to the one line that a message of ours has room for."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def did_you_mean(name: str, candidates: Iterable[str], *, prefix: str = "") -> str:
    """Suggest the candidate whose spelling is closest to a wrong name.

    Returns:
        `"; did you mean X?"`, or an empty string where nothing is close.
    """
    matches = get_close_matches(name, list(candidates), n=1, cutoff=0.6)
    return f"; did you mean {prefix}{matches[0]}?" if matches else ""
