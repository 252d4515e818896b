"""Finds the modules that a recipe's regular expressions match, within a time limit."""

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import regex

from lora_tune.config.lora import LoraConfig
from lora_tune.errors import RecipeError

MAX_SECONDS = 5.0  # of CPU time, to match one pattern with all names; most take milliseconds
PLAIN_NAME = re.compile(r"[\w.-]*")
# What `re` reads as a literal `{` or `[`, and `regex` may read as a fuzzy match, such as `(a){e}`,
# or as a POSIX class, such as `[[:alpha:]]`. No module name contains either.
LITERAL_BRACE = r"\{(?!\d*,?\d*\})"
LITERAL_BRACKET = r"\[\^?\]?(?:\\.|[^\]\\])*?\["
LITERALS = re.compile(rf"\\.|(?P<literal>{LITERAL_BRACE}|{LITERAL_BRACKET})")


def match_ends(key: str, pattern: str, *, names: Sequence[str]) -> set[str]:
    """Find the names that a pattern matches up to their end, from their start or from a dot.

    Source: PEFT, `get_pattern_key`.

    Args:
        key: the recipe key, for the error.

    Raises:
        RecipeError: matching takes too long, or the pattern has a literal bracket or brace.
    """
    expression = _compile(key, pattern, expression=rf"(.*\.)?({pattern})$")
    return _match(key, pattern, match=expression.match, names=names)


def match_whole(key: str, pattern: str, *, names: Sequence[str]) -> set[str]:
    """Find the names that a pattern matches from start to end; see `match_ends`.

    Source: PEFT, `check_target_module_exists`.
    """
    expression = _compile(key, pattern, expression=pattern)
    return _match(key, pattern, match=expression.fullmatch, names=names)


def replace_expressions(
    lora: LoraConfig, *, targets: Sequence[str], adapted: Sequence[str]
) -> LoraConfig:
    """Replace the regular expressions of `lora:` by the paths that they match, for PEFT.

    PEFT matches with `re`, which has no time limit and needs exponential time for some patterns
    that `regex` matches at once. Plain names stay as they are.

    Args:
        targets: paths of the target modules, excluded ones among them.
        adapted: paths of the modules that LoRA adapts.
    """
    excluded = lora.exclude_modules
    if isinstance(excluded, str) and not PLAIN_NAME.fullmatch(excluded):
        found = match_whole("exclude_modules", excluded, names=targets)
        excluded = "|".join(map(re.escape, sorted(found))) or None
    return replace(
        lora,
        exclude_modules=excluded,
        rank_pattern=_replace_keys("rank_pattern", lora.rank_pattern, paths=adapted),
        alpha_pattern=_replace_keys("alpha_pattern", lora.alpha_pattern, paths=adapted),
    )


def _replace_keys(key: str, patterns: dict[str, Any], *, paths: Sequence[str]) -> dict[str, Any]:
    replaced: dict[str, Any] = {}
    for pattern, value in patterns.items():
        if PLAIN_NAME.fullmatch(pattern):
            replaced[pattern] = value
        else:
            found = sorted(match_ends(key, pattern, names=paths))
            replaced |= {f"^{path}": value for path in found}  # ^: the whole path, for PEFT
    return replaced


def _compile(key: str, pattern: str, *, expression: str) -> Any:
    literal = next((m["literal"] for m in LITERALS.finditer(pattern) if m["literal"]), None)
    if literal is not None:
        raise RecipeError(
            f"lora.{key}: {pattern!r} has a literal {literal[-1]}, which no module name contains; "
            "remove it"
        )
    try:
        return regex.compile(expression, regex.VERSION0)  # the version that is compatible with re
    except regex.error as error:
        raise RecipeError(
            f"lora.{key}: found {pattern!r}, expected a name or a regular expression: {error}"
        ) from None


def _match(key: str, pattern: str, *, match: Any, names: Sequence[str]) -> set[str]:
    end = time.process_time() + MAX_SECONDS
    try:
        # A timeout is in seconds of CPU time, above 0.
        return {name for name in names if match(name, timeout=max(end - time.process_time(), 1e-9))}
    except TimeoutError:
        raise RecipeError(
            f"lora.{key}: {pattern!r} takes over {MAX_SECONDS:g} s to match the module names; "
            "expected a pattern without nested repeats, such as (a+)+"
        ) from None
