"""Secrets, kept out of everything that is shown or written.

A secret is the value of an environment variable that is named like one, or that a recipe reads by
`${oc.env:NAME}`, and whatever a URL carries as credentials.
"""

import json
import os
import re

SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|(API|ACCESS|PRIVATE|ACCOUNT|SIGNING)_?KEY|CREDENTIAL|_PWD$",
    re.IGNORECASE,
)
SHORTEST = 8  # characters; a shorter value would take ordinary words away with it
IN_URL = [
    (re.compile(r"(\w:/{1,2})[^/\s@'\"]+@"), r"\1***@"),  # a path drops the second slash
    (
        re.compile(
            r"([?&](?:[\w-]*(?:token|key|secret|passw|signature|auth)[\w-]*|sig|pwd)=)[^&\s'\"]+",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
]
_read_by_recipes: set[str] = set()  # names of variables


def remember_variable(name: str) -> None:
    """Treat an environment variable's value as a secret from now on."""
    _read_by_recipes.add(name)


def is_secret(name: str) -> bool:
    """Whether an environment variable is named like a secret."""
    return bool(SECRET_NAME.search(name))


def redact(text: str) -> str:
    """Put a name in place of every secret; also inside JSON."""
    values = {
        form: name
        for name, value in os.environ.items()
        if name in _read_by_recipes or is_secret(name)
        for form in (value, value.strip(), " ".join(value.split()))  # as tables show it
        if len(form) >= SHORTEST
    }
    for value in sorted(values, key=len, reverse=True):
        for form in (value, json.dumps(value, ensure_ascii=False)[1:-1]):
            text = text.replace(form, f"${{oc.env:{values[value]}}}")
    for pattern, replacement in IN_URL:
        text = pattern.sub(replacement, text)
    return text
