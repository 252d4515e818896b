"""A text file opened in the encoding that it is written in."""

import codecs
from pathlib import Path
from typing import NamedTuple, TextIO

from lora_tune.errors import DataError

UTF8 = "UTF-8"
# UTF-32 first: its mark begins with that of UTF-16.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", UTF8),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
# The first bytes of other files, and what these are.
SIGNATURES = {
    b"PK\x03\x04": "a zip file, such as an Excel workbook (xlsx)",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (xls)",
    b"\x1f\x8b": "a gzip file",
    b"PAR1": "a parquet file",
    b"%PDF": "a PDF file",
}
SAMPLE_BYTES = 4096
MAX_ZERO_SHARE = 0.2  # of the bytes of text; in UTF-16, half of English text is zero bytes


class OpenText(NamedTuple):
    """An opened file."""

    file: TextIO  # a byte that is not text is a surrogate, as in PEP 383
    encoding: str  # its name, for messages
    note: str | None  # where it was not the default


def open_text(path: Path, name: str, encoding: str | None) -> OpenText:
    """Open a file in the recipe's encoding, that of its byte-order mark, or UTF-8.

    Args:
        path: of the file.
        name: of the file, for messages.
        encoding: of the recipe; None where it names none.

    Raises:
        DataError: the file is empty, is no text file, or is in another encoding.
    """
    with path.open("rb") as raw:
        sample = raw.read(SAMPLE_BYTES)
    if not sample:
        raise DataError(f"{name}: the file is empty")
    kind = next((kind for start, kind in SIGNATURES.items() if sample.startswith(start)), None)
    if kind is not None:
        raise DataError(f"{name}: found {kind}, expected text; use its own file extension")
    codec, title = encoding or "utf-8", encoding or UTF8
    note = None
    marked = next(((c, t) for mark, c, t in MARKS if sample.startswith(mark)), None)
    if marked is not None:
        if encoding is not None and not _same_family(encoding, marked[1]):
            raise DataError(
                f"{name}: begins with the byte-order mark of {marked[1]}, but data.format.encoding "
                f"is {encoding}; remove data.format.encoding"
            )
        codec, title = marked
        note = None if title == UTF8 else f"{name} is read as {title}, by its byte-order mark."
    elif encoding is None and sample.count(0) > MAX_ZERO_SHARE * len(sample):
        guess = "utf-16-be" if sample[:1] == b"\0" else "utf-16-le"
        raise DataError(
            f"{name}: found zero bytes, as in UTF-16 without a byte-order mark; set "
            f"data.format.encoding={guess}, or save the file as UTF-8"
        )
    file = path.open(encoding=codec, errors="surrogateescape", newline="")
    return OpenText(file, title, note)


def _same_family(encoding: str, marked: str) -> bool:
    found = codecs.lookup(encoding).name.replace("-sig", "").replace("-", "")
    return found.startswith(marked.lower().replace("-", ""))
