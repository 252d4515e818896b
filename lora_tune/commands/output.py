"""What the command line prints: text without secrets, to standard output or standard error."""

import os
import sys

from lora_tune.config.redaction import redact


def show(text: str) -> None:
    """Print text; a reader such as `head` may close the pipe, and the verb continues."""
    try:
        print(_encodable(redact(text)), flush=True)
    except BrokenPipeError:
        discard_output()


def show_part(text: str) -> None:
    """Print a part of a longer output; an empty line follows what has several lines."""
    show(f"{text}\n" if "\n" in text else text)


def show_error(text: str) -> None:
    """Print text to standard error."""
    print(redact(text), file=sys.stderr)


def discard_output() -> None:
    """Discard all further output, since nothing reads it."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _encodable(text: str) -> str:
    """Escape what standard output cannot encode, such as Chinese in a Latin-1 terminal."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
