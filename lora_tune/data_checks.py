"""What to know of rows before trusting a number: copies, imbalance, cuts, given answers."""

import html
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

SKEWED = 3  # times as many rows as the rarest class
CUT = 0.05  # share of rows
TOLD = 0.02  # share of a label's own rows that hold its name...
TOLD_ROWS = 5  # at least
SHOWN = 3  # labels
TELLING = 3  # ...and this many times the share of others
COPIED = 0.5  # share of the test texts
PUNCTUATION = re.compile(r"[\W_]+")
TAG = re.compile(r"<[^>]{1,40}>")


def normalise(text: str) -> str:
    """Take from a text what copies differ in: case, spacing, punctuation, HTML."""
    plain = PUNCTUATION.sub(" ", TAG.sub(" ", html.unescape(text))).strip().casefold()
    return plain or text.strip()  # of symbols alone


def is_selected_on_test(texts: Mapping[str, Sequence[str]]) -> bool:
    """Tell whether validation rows are largely copies of test rows.

    Args:
        texts: of each split, by its name.
    """
    validation, test = (set(map(normalise, texts[name])) for name in ("validation", "test"))
    return len(validation & test) >= COPIED * min(len(validation), len(test))


def check_copies(texts: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Find texts that stand in two splits, exactly or but for case, spacing and punctuation.

    Args:
        texts: of each split, by its name.
    """
    plain = {name: list(map(normalise, rows)) for name, rows in texts.items()}
    for split, others in (("test", ("train", "validation")), ("validation", ("train",))):
        seen = {text for other in others for text in texts[other]}
        alike = {text for other in others for text in plain[other]}
        exact = sum(text in seen for text in texts[split])
        copies = sum(text in alike for text in plain[split])
        if copies:
            also = f", {copies} when case, spacing and punctuation are left out" * (copies > exact)
            yield (
                f"{exact} of {len(texts[split])} {split} texts also stand in "
                f"{' or '.join(others)}{also}: what was learnt by heart counts as right there."
            )


def check_balance(numbers: np.ndarray, labels: Sequence[str]) -> Iterator[str]:
    """Find classes with far fewer rows than others; numbers (rows,) are training labels."""
    counts = np.bincount(numbers, minlength=len(labels))
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] >= SKEWED * counts[least]:
        yield (
            f"Classes are uneven: {counts[most] / counts.sum():.0%} of train is {labels[most]}, "
            f"{counts[least] / counts.sum():.1%} {labels[least]}. Read macro F1 beside accuracy."
        )


def check_cuts(token_counts: np.ndarray, max_length: int, side: str | None) -> Iterator[str]:
    """Find test rows that lose text.

    Args:
        token_counts: (rows,), before truncation.
        side: that is cut; None where a task has a way of its own.
    """
    cut = np.mean(token_counts > max_length)
    if cut >= CUT:
        yield (
            f"{cut:.0%} of the test texts are longer than {max_length} tokens and cut"
            + (f" on the {side}" if side else "")
            + "; data.max_length"
            + (" and data.truncation_side govern it." if side else " governs it.")
        )


def check_answers(
    texts: Sequence[str], numbers: np.ndarray, labels: Sequence[str]
) -> Iterator[str]:
    """Find labels whose names stand in the texts that bear them; numbers (rows,)."""
    words = [f" {normalise(text)} " for text in texts]
    found = []
    for number, label in enumerate(labels):
        name = f" {normalise(label)} "
        holds = np.array([name in text for text in words])
        own, others = holds[numbers == number], holds[numbers != number]
        if own.sum() >= TOLD_ROWS and own.mean() >= max(TOLD, TELLING * others.mean()):
            found.append(
                f"{label} in {own.mean():.1%} of its own and {others.mean():.1%} of others"
            )
    if found:
        more = f" and {len(found) - SHOWN} more labels" if len(found) > SHOWN else ""
        yield (
            f"Labels stand in training texts by name and may give the answer away: "
            f"{'; '.join(found[:SHOWN])}{more}."
        )
