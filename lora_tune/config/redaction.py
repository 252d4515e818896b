"""Redaction of secrets from everything that is shown or written.

A secret is the value of an environment variable with a name like a secret's, the value of one that
a recipe reads with `${oc.env:NAME}`, or the credentials in a URL.
"""

import json
import os
import re

SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|(API|ACCESS|PRIVATE|ACCOUNT|SIGNING)_?KEY|CREDENTIAL|_PWD$",
    re.IGNORECASE,
)
MIN_LENGTH = 8  # characters; redacting shorter values would redact ordinary words too
CREDENTIALS_IN_URL = [
    (re.compile(r"(\w:/{1,2})[^/\s@'\"]+@"), r"\1***@"),  # pathlib drops the second slash
    (
        re.compile(
            r"([?&](?:[\w-]*(?:token|key|secret|passw|signature|auth)[\w-]*|sig|pwd)=)[^&\s'\"]+",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
]
_read_by_recipes: set[str] = set()  # names of environment variables


def remember_variable(name: str) -> None:
    """Treat the value of an environment variable as a secret from now on."""
    _read_by_recipes.add(name)


def is_secret(name: str) -> bool:
    """Whether the name of an environment variable is like that of a secret."""
    return bool(SECRET_NAME.search(name))


def redact(text: str, *, ignore_case: bool = False) -> str:
    """Replace each secret in a text, also inside JSON, by the name of its variable or by `***`.

    Args:
        text: the text.
        ignore_case: whether secrets are also found in other case, as in words without their case.
    """
    values = {
        form: name
        for name, value in os.environ.items()
        if name in _read_by_recipes or is_secret(name)
        for form in (value, value.strip(), " ".join(value.split()))  # on one line, as in tables
        if len(form) >= MIN_LENGTH
    }
    for value in sorted(values, key=len, reverse=True):
        for form in (value, json.dumps(value, ensure_ascii=False)[1:-1]):
            replacement = f"${{oc.env:{values[value]}}}"
            if ignore_case:
                text = re.sub(re.escape(form), replacement, text, flags=re.IGNORECASE)
            else:
                text = text.replace(form, replacement)
    for pattern, replacement in CREDENTIALS_IN_URL:
        text = pattern.sub(replacement, text)
    return text
