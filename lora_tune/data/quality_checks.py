"""Warnings about rows: duplicates, class imbalance, truncation and label leaks."""

import hashlib
import html
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import regex

from lora_tune.data.segmentation import find_terms, fold

IMBALANCE_RATIO = 3  # of the rows of the largest class to those of the smallest
MIN_TRUNCATED_SHARE = 0.05  # of the rows
MIN_DUPLICATE_SHARE = 0.5  # of the validation or test texts, whichever are fewer
# A label leaks if enough of its rows contain its name, and more of them than of other rows.
MIN_LEAK_SHARE = 0.02  # of the label's rows
MIN_LEAK_ROWS = 5
MIN_LEAK_RATIO = 3  # of that share to the share of other rows
MAX_LABELS_SHOWN = 3
# Spaces, invisible characters and the punctuation of sentences: not #, %, & and @, which carry
# meaning as symbols do, nor a minus before a digit, nor what is inside of words and emoji.
PUNCTUATION = regex.compile(
    r"(?:(?!(?<!\w)-[.,]?\d)[\s\p{Cc}`\u00b4[\p{P}--[\#%&@\u2030\u2031\u066a]]"
    r"[\p{Cf}--[\p{Join_Control}\U000e0020-\U000e007f]]])+",
    regex.VERSION1,
)
TAG = regex.compile(r"</?[a-zA-Z][a-zA-Z0-9]{0,20}(?:\s[^<>]{0,200})?/?>")


def normalize(text: str) -> str:
    """Remove case, repeated spaces, punctuation and HTML, in which duplicates may differ."""
    plain = PUNCTUATION.sub(" ", fold(TAG.sub(" ", html.unescape(text)))).strip()
    return plain or text.strip()  # the latter for a text of punctuation only


def selects_on_test(texts: Mapping[str, Sequence[str]]) -> bool:
    """Check whether most validation texts are test texts, so that test rows select the model.

    Args:
        texts: split -> its texts.
    """
    validation, test = (
        np.unique(_hash_texts(map(normalize, texts[name]))) for name in ("validation", "test")
    )
    duplicates = len(np.intersect1d(validation, test, assume_unique=True))
    return duplicates >= MIN_DUPLICATE_SHARE * min(len(validation), len(test))


def find_duplicates(texts: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Find texts that occur in two splits, exactly or after normalization.

    Args:
        texts: split -> its texts.
    """
    exact = {name: _hash_texts(rows) for name, rows in texts.items()}
    normalized = {name: _hash_texts(map(normalize, rows)) for name, rows in texts.items()}
    for split, others in (("test", ("train", "validation")), ("validation", ("train",))):
        exact_count, similar = (
            int(np.isin(hashes[split], np.concatenate([hashes[own] for own in others])).sum())
            for hashes in (exact, normalized)
        )
        if similar:
            also = f", {similar} when case, spacing, punctuation and HTML are ignored" * (
                similar > exact_count
            )
            yield (
                f"{exact_count} of {len(exact[split])} {split} texts also occur in "
                f"{' or '.join(others)}{also}; memorizing them improves the metrics."
            )


def _hash_texts(texts: Iterable[str]) -> np.ndarray:
    """Hash texts, (rows,), to 64 bits each, so that no copy of the texts is kept.

    Among a million texts, two have the same hash by chance with a probability below 1e-7.
    """
    hashes = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.fromiter(map(int.from_bytes, hashes), dtype=np.uint64)


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


def find_absent_labels(counts: Mapping[str, int]) -> Iterator[str]:
    """Find labels that no training row has.

    Args:
        counts: label -> the training rows that have it.
    """
    absent = [name for name, rows in counts.items() if rows == 0]
    if absent:
        more = len(absent) - MAX_LABELS_SHOWN
        yield (
            f"No training row has the labels {', '.join(absent[:MAX_LABELS_SHOWN])}"
            + (f" and {more} more" if more > 0 else "")
            + ": they are not learned. Add rows, or remove them from data.labels."
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
    names = [_as_words(label) for label in labels]
    found = np.zeros((len(labels), len(labels)), dtype=int)  # (labels of rows, names in texts)
    for text, label_id in zip(texts, label_ids, strict=True):
        words = _as_words(text)
        found[label_id] += [name in words for name in names]
    rows = np.bincount(label_ids, minlength=len(labels))
    own = found.diagonal()
    own_shares = own / np.maximum(rows, 1)
    other_shares = (found.sum(axis=0) - own) / np.maximum(len(label_ids) - rows, 1)
    leaks = [
        f"{labels[i]} in {own_shares[i]:.1%} of its rows and {other_shares[i]:.1%} of other rows"
        for i in range(len(labels))
        if own[i] >= MIN_LEAK_ROWS
        and own_shares[i] >= max(MIN_LEAK_SHARE, MIN_LEAK_RATIO * other_shares[i])
    ]
    if leaks:
        more = len(leaks) - MAX_LABELS_SHOWN
        yield (
            f"Label names occur in training texts and may leak the label: "
            f"{'; '.join(leaks[:MAX_LABELS_SHOWN])}"
            + (f" and {more} more labels." if more > 0 else ".")
        )


def _as_words(text: str) -> str:
    """Write a text's words with spaces around them; empty where it has none."""
    words = find_terms(normalize(text))
    return f" {' '.join(words)} " if words else ""
