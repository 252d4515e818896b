"""Warnings about rows: duplicates, class imbalance, truncation and label leaks."""

import html
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

IMBALANCE_RATIO = 3  # of the rows of the largest class to those of the smallest
MIN_TRUNCATED_SHARE = 0.05  # of the rows
MIN_DUPLICATE_SHARE = 0.5  # of the validation or test texts, whichever are fewer
# A label leaks if enough of its rows contain its name, and more of them than of other rows.
MIN_LEAK_SHARE = 0.02  # of the label's rows
MIN_LEAK_ROWS = 5
MIN_LEAK_RATIO = 3  # of that share to the share of other rows
MAX_LABELS_SHOWN = 3
PUNCTUATION = re.compile(r"[\W_]+")
TAG = re.compile(r"<[^>]{1,40}>")


def normalize(text: str) -> str:
    """Remove case, repeated spaces, punctuation and HTML, in which duplicates may differ."""
    plain = PUNCTUATION.sub(" ", TAG.sub(" ", html.unescape(text))).strip().casefold()
    return plain or text.strip()  # the latter for a text of symbols only


def selects_on_test(texts: Mapping[str, Sequence[str]]) -> bool:
    """Check whether most validation texts are test texts, so that test rows select the model.

    Args:
        texts: split -> its texts.
    """
    validation, test = (set(map(normalize, texts[name])) for name in ("validation", "test"))
    return len(validation & test) >= MIN_DUPLICATE_SHARE * min(len(validation), len(test))


def find_duplicates(texts: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Find texts that occur in two splits, exactly or after normalization.

    Args:
        texts: split -> its texts.
    """
    normalized = {name: list(map(normalize, rows)) for name, rows in texts.items()}
    for split, others in (("test", ("train", "validation")), ("validation", ("train",))):
        seen = {text for other in others for text in texts[other]}
        seen_normalized = {text for other in others for text in normalized[other]}
        exact = sum(text in seen for text in texts[split])
        duplicates = sum(text in seen_normalized for text in normalized[split])
        if duplicates:
            also = f", {duplicates} when case, spacing, punctuation and HTML are ignored" * (
                duplicates > exact
            )
            yield (
                f"{exact} of {len(texts[split])} {split} texts also occur in "
                f"{' or '.join(others)}{also}; memorizing them improves the metrics."
            )


def check_balance(label_ids: np.ndarray, labels: Sequence[str]) -> Iterator[str]:
    """Find classes with far fewer rows than others.

    Args:
        label_ids: (rows,), of the training rows.
        labels: the names of the classes in the order of their IDs.
    """
    counts = np.bincount(label_ids, minlength=len(labels))
    largest, smallest = int(counts.argmax()), int(counts.argmin())
    if counts[largest] >= IMBALANCE_RATIO * counts[smallest]:
        yield (
            f"Classes are imbalanced: {counts[largest] / counts.sum():.0%} of the training rows "
            f"are {labels[largest]}, {counts[smallest] / counts.sum():.1%} {labels[smallest]}; "
            "compare macro F1 as well as accuracy."
        )


def check_truncation(token_counts: np.ndarray, max_length: int, side: str | None) -> Iterator[str]:
    """Find out whether many test rows are truncated.

    Args:
        token_counts: (rows,), in tokens before truncation.
        max_length: in tokens.
        side: the side that loses tokens; None where the task truncates in another way.
    """
    share = np.mean(token_counts > max_length)
    if share >= MIN_TRUNCATED_SHARE:
        where = f" on the {side}" if side else ""
        keys = "data.max_length" + (" and data.truncation_side" if side else "")
        yield (
            f"{share:.0%} of the test texts are longer than {max_length} tokens and are truncated"
            f"{where}; to change this, set {keys}."
        )


def find_label_leaks(
    texts: Sequence[str], label_ids: np.ndarray, labels: Sequence[str]
) -> Iterator[str]:
    """Find labels whose names occur in the texts with that label, and rarely in others.

    Args:
        texts: of the training rows.
        label_ids: (rows,).
        labels: the names of the classes in the order of their IDs.
    """
    words = [f" {normalize(text)} " for text in texts]
    leaks = []
    for number, label in enumerate(labels):
        name = f" {normalize(label)} "
        has_name = np.array([name in text for text in words])
        own, others = has_name[label_ids == number], has_name[label_ids != number]
        if own.sum() >= MIN_LEAK_ROWS and own.mean() >= max(
            MIN_LEAK_SHARE, MIN_LEAK_RATIO * others.mean()
        ):
            leaks.append(
                f"{label} in {own.mean():.1%} of its rows and {others.mean():.1%} of other rows"
            )
    if leaks:
        more = len(leaks) - MAX_LABELS_SHOWN
        yield (
            f"Label names occur in training texts and may leak the label: "
            f"{'; '.join(leaks[:MAX_LABELS_SHOWN])}"
            + (f" and {more} more labels." if more > 0 else ".")
        )
