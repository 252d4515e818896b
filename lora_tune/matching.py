"""Which module names a regular expression means, found within a time limit."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence

from lora_tune.errors import RecipeError

SECONDS = 5  # for one pattern and all names; a sound one takes milliseconds
PLAIN = re.compile(r"[\w.-]*")
SCRIPT = """
import json, re, sys
method, pattern, names = json.load(sys.stdin)
json.dump([name for name in names if getattr(re, method)(pattern, name)], sys.stdout)
"""


def match_ends(key: str, pattern: str, names: Sequence[str]) -> set[str]:
    """Find the names that a pattern matches from a dot, or the start, to the end.

    Source: PEFT, `get_pattern_key`.

    Args:
        key: of the recipe, for the error.

    Raises:
        RecipeError: the pattern takes too long, as `(a+)+` may.
    """
    return _match(key, pattern, ("match", rf"(.*\.)?({pattern})$"), names)


def match_whole(key: str, pattern: str, names: Sequence[str]) -> set[str]:
    """Find the names that a pattern matches from start to end; see `match_ends`.

    Source: PEFT, `check_target_module_exists`.
    """
    return _match(key, pattern, ("fullmatch", pattern), names)


def _match(key: str, pattern: str, how: tuple[str, str], names: Sequence[str]) -> set[str]:
    method, expression = how
    if PLAIN.fullmatch(pattern):
        return {name for name in names if getattr(re, method)(expression, name)}
    try:
        # Nothing stops `re` within a process, so this is done in another.
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", SCRIPT],
            input=json.dumps([method, expression, list(names)]),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise RecipeError(
            f"lora.{key}: {pattern!r} takes over {SECONDS} s to match the module names; expected a "
            "pattern without nested repeats, such as (a+)+"
        ) from None
    return set(json.loads(done.stdout))
