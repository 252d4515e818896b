"""Hashes of the rows that a run trained and selected on, so that they are recognized later.

The file is in the run directory, not in the adapter, which may be published.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from lora_tune.data.quality_checks import normalize
from lora_tune.data.splits import Data

TRAINING_ROWS_FILE = "training_rows.json"
METHOD = "first 16 hexadecimal digits of the SHA-256 of the normalized text"
HASH_DIGITS = 16


def write_training_rows(folder: Path, data: Data) -> None:
    """Write the hashes of a run's training and validation rows into its directory."""
    hashes = {name: _hash(data.splits[name].rows.texts) for name in ("train", "validation")}
    content = json.dumps({"hash": METHOD, **hashes})
    (folder / TRAINING_ROWS_FILE).write_text(content + "\n", encoding="utf-8")


def count_training_rows(adapter: Path, texts: Iterable[str]) -> int | None:
    """Count the texts that an adapter was trained or selected on.

    Args:
        adapter: the adapter directory of a run.
        texts: of rows.

    Returns:
        The number of such texts; None where the adapter is not in its run directory.
    """
    try:
        found = json.loads((adapter.parent / TRAINING_ROWS_FILE).read_text(encoding="utf-8"))
        known = {*found["train"], *found["validation"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return sum(digest in known for digest in _hash(texts))


def _hash(texts: Iterable[str]) -> list[str]:
    plain = (normalize(text).encode() for text in texts)
    return [hashlib.sha256(text).hexdigest()[:HASH_DIGITS] for text in plain]
