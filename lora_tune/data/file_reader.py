"""Data files read into rows: csv, tsv, json, jsonl, parquet and conll."""

import csv
import glob
import json
from pathlib import Path
from typing import TYPE_CHECKING

from lora_tune.data.conll import read_conll
from lora_tune.errors import DataError, did_you_mean, first_line

if TYPE_CHECKING:
    from datasets import Dataset

ONLY_EMPTY_IS_NULL = {"keep_default_na": False, "na_values": [""]}  # a review may say "N/A"
CONLL = ".conll"
# Suffix -> the dataset builder that reads the file, and its options.
BUILDERS: dict[str, tuple[str, dict[str, object]]] = {
    ".csv": ("csv", ONLY_EMPTY_IS_NULL),
    ".tsv": ("csv", {"sep": "\t", **ONLY_EMPTY_IS_NULL}),
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".parquet": ("parquet", {}),
}
SUFFIXES = (*BUILDERS, CONLL)
FORMATS = ", ".join(suffix[1:] for suffix in SUFFIXES)


def read_file(path: Path, file_format: str | None = None) -> "Dataset":
    """Read the rows of one file; text may begin with a byte-order mark.

    Args:
        path: of the file.
        file_format: one of FORMATS; None for the one that the path's suffix names.

    Raises:
        DataError: the file does not exist, or is malformed; names the line where it is known.
    """
    import datasets

    if not path.is_file():
        raise DataError(f"{path}: no such file (looked from {Path.cwd()}){suggest_path(path)}")
    suffix = f".{file_format}" if file_format else path.suffix.lower()
    if suffix not in SUFFIXES:
        found = f"a {path.suffix} file" if path.suffix else "a file without an extension"
        raise DataError(f"{path}: found {found}, expected {FORMATS}")
    if not path.stat().st_size:
        raise DataError(f"{path}: the file is empty")
    if suffix == CONLL:
        return read_conll(path)
    builder, options = BUILDERS[suffix]
    try:
        splits = datasets.load_dataset(builder, data_files=glob.escape(str(path)), **options)
    except (datasets.exceptions.DatasetGenerationError, ValueError, OSError) as error:
        problem = _find_malformed_line(path, suffix) or first_line(error.__cause__ or error)
        raise DataError(f"{path}: {problem}") from None
    return splits["train"]


def read_files(paths: list[Path]) -> "Dataset":
    """Read files with the same columns, and concatenate their rows.

    Raises:
        DataError: a file cannot be read, or their columns differ.
    """
    import datasets

    try:
        return datasets.concatenate_datasets([read_file(path) for path in paths])
    except ValueError as error:
        raise DataError(
            f"{paths[0]}: its columns differ from those of the split's other files: "
            f"{first_line(error)}"
        ) from None


def suggest_path(path: Path) -> str:
    """Suggest the file or folder whose name is closest to that of a path that does not exist.

    Returns:
        The end of an error message; empty where no name is close.
    """
    names = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    return did_you_mean(path.name, names, prefix=f"{path.parent}/")


def _find_malformed_line(path: Path, suffix: str) -> str | None:
    """Find the first line of a file that cannot be read, and describe its problem."""
    if suffix == ".parquet":
        return None
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as cause:
            return f"line {number}: not UTF-8 at byte {cause.start}; save the file as UTF-8"
        if suffix == ".jsonl" and text.strip():
            try:
                json.loads(text)
            except json.JSONDecodeError as cause:
                return f"line {number}: not JSON: {cause.msg} at column {cause.colno}"
    if suffix == ".json":
        try:
            json.loads(path.read_text(encoding="utf-8-sig"))
        except json.JSONDecodeError as cause:
            return f"line {cause.lineno}: not JSON: {cause.msg} at column {cause.colno}"
    if suffix in (".csv", ".tsv"):
        return _find_malformed_record(path, delimiter="\t" if suffix == ".tsv" else ",")
    return None


def _find_malformed_record(path: Path, *, delimiter: str) -> str | None:
    """Find the first record of a csv or tsv file that differs from the header, or is no record."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        records = csv.reader(file, delimiter=delimiter, strict=True)
        width, line = None, 1
        try:
            for cells in records:
                width = width or len(cells)
                if len(cells) != width:
                    return f"line {line}: found {len(cells)} columns, expected {width}"
                line = records.line_num + 1
        except csv.Error as cause:
            return f"line {line}: {cause} (an unbalanced quotation mark?)"
    return "found a header, but no rows" if line == 2 else None
