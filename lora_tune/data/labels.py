"""Labels of rows: their names in order, and the ID that each cell stands for."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from lora_tune.data.list_cells import parse_list
from lora_tune.errors import DataError, did_you_mean

INTEGER = re.compile(r"-?\d+")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# How IDs may be written, each for a whole column: 0, 1, 2 or 0.0, 1.0, 2.0.
ID_NOTATIONS = (re.compile(r"0|[1-9]\d*"), re.compile(r"(0|[1-9]\d*)\.0"))
NOT_A_NUMBER = ("nan", "NaN")  # what pandas and numpy write for a missing value
MISSING_NAMES = ("", "null", "none", "na", "n/a", "<na>", "-", "?")  # that may stand for no label
MAX_DIGITS = 300  # of numbers that are compared
SEPARATORS = re.compile(r"[;,|]")
QUOTES = "'\""
SHOWN = 3  # labels or spellings in a message


def sort_labels(names: Iterable[str]) -> list[str]:
    """Sort label names: numbers by value, other names as text."""
    names = set(names)
    if max(map(len, names), default=0) > MAX_DIGITS:
        return sorted(names)
    if all(map(INTEGER.fullmatch, names)):
        return sorted(names, key=lambda name: (int(name), name))
    if all(map(NUMBER.fullmatch, names)):
        return sorted(names, key=lambda name: (float(name), name))
    return sorted(names)


def is_missing_label(cell: str | None, names: Sequence[str] | None) -> bool:
    """Whether a label cell is empty, blank or NaN.

    Args:
        cell: as it was read.
        names: the recipe's labels; None where it names none.
    """
    if cell is None or not cell.strip():
        return True
    return cell.strip() in NOT_A_NUMBER and cell not in (names or ())


class LabelIds:
    """The ID of each label, from the text that stands for it in the rows.

    A text is the name of a label. Where no name is a number, numbers are IDs, but only if the
    recipe itself names the labels, and if all texts are whole numbers in one notation.
    """

    def __init__(
        self,
        labels: Sequence[str],
        texts: Iterable[str],
        *,
        named: Sequence[str] | None,
        column_names: Sequence[str] | None = None,
    ) -> None:
        """Decide what the texts of a column mean.

        Args:
            labels: the label names in the order of their IDs.
            texts: of the column's labels.
            named: the recipe's labels; None where it names none.
            column_names: of a ClassLabel column, in the order of its own IDs.
        """
        self.labels = labels
        self._named = bool(named)
        self._ids = {name: number for number, name in enumerate(labels)}
        # The recipe renames the classes of the column; with a name in both, the order is unclear.
        is_renamed = column_names and named and set(column_names).isdisjoint(labels)
        if column_names and is_renamed and len(column_names) == len(labels):
            self._ids |= {name: number for number, name in enumerate(column_names)}
        if named and not any(map(NUMBER.fullmatch, labels)):
            for notation in ID_NOTATIONS:
                if all(map(notation.fullmatch, set(texts))):
                    suffix = ".0" if notation is ID_NOTATIONS[1] else ""
                    self._ids |= {f"{number}{suffix}": number for number in range(len(labels))}

    def find(self, text: str) -> int | None:
        """Return the ID of the label that a text stands for; None where it is none."""
        return self._ids.get(text)

    def describe(self, text: str) -> str:
        """List the labels that a text is not among, and suggest one."""
        shown = ", ".join(self.labels[:20]) + ", ..." * (len(self.labels) > 20)
        near = did_you_mean(text, self.labels)
        hint = ""
        if not near and NUMBER.fullmatch(text) and not self._named:
            hint = "; numbers are IDs, from 0, only if data.labels of the recipe names the labels"
        return f"{shown}{near or hint}"


def split_labels(cell: str, labels: Sequence[str] = ()) -> list[str]:
    """Read the labels of a cell: a list as JSON or Python writes it, or a text with separators.

    Args:
        cell: such as `["a", "b"]`, `['a', 'b']`, `[1, 0, 1]`, `a; b`, `a, b` or `a|b`.
        labels: known names; a cell that is one of them is that label, whatever is in it.

    Raises:
        DataError: the cell looks like a list, and is none of text or numbers.
    """
    text = cell.strip()
    if text in labels:
        return [text]
    items = parse_list(text)
    if items is None:
        if text[:1] + text[-1:] in ("[]", "()", "{}"):
            raise DataError(f"found {text!r:.60}, expected a list such as ['a', 'b'], or a; b")
        parts = [part.strip() for part in SEPARATORS.split(text) if part.strip()]
        if any(map(_is_cut, parts)):
            raise DataError(f"found {text!r:.60}, expected a list such as ['a', 'b'], or a; b")
        return parts
    if not all(isinstance(item, str) and item.strip() for item in items):
        raise DataError(f"found {text!r:.60}, expected a list of label names or numbers")
    return items


def _is_cut(part: str) -> bool:
    """Whether a label has a quotation mark or bracket without its other half."""
    pairs = (("(", ")"), ("[", "]"), ("{", "}"))
    return (
        part[0] in QUOTES
        or part[-1] in QUOTES
        or any(part.count(first) != part.count(last) for first, last in pairs)
    )


def check_spellings(counts: Mapping[str, int]) -> Iterator[str]:
    """Find labels that differ only in case, spaces or the notation of a number.

    Args:
        counts: label -> its rows in train.
    """
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in counts:
        plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        key = repr(float(plain)) if NUMBER.fullmatch(plain) else plain
        spellings[key].append(name)
    groups = [names for names in spellings.values() if len(names) > 1]
    if groups:
        shown = "; ".join(
            ", ".join(f"{name!r} {counts[name]}" for name in names) for names in groups[:SHOWN]
        )
        more = f" and {len(groups) - SHOWN} more groups" if len(groups) > SHOWN else ""
        yield (
            "Labels that differ only in case, spaces or notation are different classes: "
            f"{shown}{more}; if they are the same, write them in one way."
        )
    suspects = [name for name in counts if name.strip().casefold() in MISSING_NAMES]
    if suspects:
        shown = ", ".join(f"{name!r} {counts[name]}" for name in suspects[:SHOWN])
        yield f"Labels that may stand for a missing label are classes: {shown}."
