"""The nearest right spelling of a wrong name."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, candidates: Iterable[str], *, prefix: str = "") -> str:
    """Suggest the nearest candidate.

    Returns:
        `"; did you mean X?"`, or an empty string where nothing is near.
    """
    matches = get_close_matches(name, list(candidates), n=1, cutoff=0.6)
    return f"; did you mean {prefix}{matches[0]}?" if matches else ""
