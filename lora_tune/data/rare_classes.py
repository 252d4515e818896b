"""Classes with too few rows to be in every split: named, left out, or put together."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lora_tune.data.rows import Rows
from lora_tune.errors import DataError

OTHER = "other"  # the class that `data.rare: other` puts rare classes together in
SHOWN = 10  # classes in a message


def handle_rare_classes(
    rows: Mapping[str, Rows], rare: str | None, *, needed: int
) -> tuple[dict[str, Rows], list[str]]:
    """Find classes with fewer training rows than splits need, and do what the recipe says.

    Args:
        rows: split -> its rows, before rows are set aside from train.
        rare: `drop` or `other`; None to name them as an error.
        needed: rows that a class needs in train.

    Returns:
        The rows, and notes about what was done.

    Raises:
        DataError: there are rare classes, and the recipe does not say what happens with them.
    """
    train = rows["train"]
    counts = np.bincount(train.labels, minlength=len(train.label_names))
    numbers = [number for number, count in enumerate(counts) if count < needed and (count or rare)]
    if not numbers:
        return dict(rows), []
    shown = ", ".join(f"{train.label_names[n]!r} {counts[n]}" for n in numbers[:SHOWN])
    shown += f", and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    if rare is None:
        raise DataError(
            f"data.train: {len(numbers)} of {np.count_nonzero(counts)} classes have fewer than "
            f"{needed} rows, one for each split: {shown}; add rows, leave these classes out with "
            f"data.rare=drop, or put them together with data.rare={OTHER}"
        )
    if rare == "drop":
        found = {name: _leave_out(own, numbers) for name, own in rows.items()}
        left = sum(len(own.texts) for own in rows.values()) - sum(
            len(own.texts) for own in found.values()
        )
        return found, [f"data.rare: left out {len(numbers)} classes, {left} rows: {shown}."]
    found = {name: _put_together(own, numbers) for name, own in rows.items()}
    together = sum(counts[numbers])
    if together < needed:
        raise DataError(
            f"data.rare: {OTHER} would have {together} rows, and needs {needed}: {shown}; set "
            "data.rare=drop"
        )
    return found, [f"data.rare: put {len(numbers)} classes together in {OTHER!r}: {shown}."]


def _leave_out(rows: Rows, numbers: list[int]) -> Rows:
    kept = rows.select(rows.name, np.flatnonzero(~np.isin(rows.labels, numbers)))
    names = [name for number, name in enumerate(rows.label_names) if number not in numbers]
    return _rename(kept, names, {name: name for name in names})


def _put_together(rows: Rows, numbers: list[int]) -> Rows:
    names = [name for number, name in enumerate(rows.label_names) if number not in numbers]
    renamed = {name: name for name in names}
    renamed |= {rows.label_names[number]: OTHER for number in numbers}
    return _rename(rows, [name for name in names if name != OTHER] + [OTHER], renamed)


def _rename(rows: Rows, names: list[str], renamed: dict[str, str]) -> Rows:
    ids = {name: number for number, name in enumerate(names)}
    old = rows.label_names
    table = np.array([ids.get(renamed.get(name, ""), -1) for name in old])
    labels = table[rows.labels] if len(rows.labels) else rows.labels
    texts = [names[number] for number in labels]
    return replace(rows, labels=labels, label_texts=texts, label_names=names)
