"""A data source opened: raw rows by split, from files, a folder, the Hub or the package."""

import csv
import glob
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lora_tune.conll import read_conll
from lora_tune.errors import DataError, first_line
from lora_tune.hub import HubUnreachable, find_commit
from lora_tune.recipe import DataConfig
from lora_tune.suggestions import did_you_mean

if TYPE_CHECKING:
    from datasets import Dataset

EMBEDDED_PREFIX = "embedded:"
EMBEDDED = Path(__file__).parent / "embedded"
ONLY_EMPTY_IS_NULL = {"keep_default_na": False, "na_values": [""]}  # a review may say "N/A"
CONLL = ".conll"
READERS: dict[str, tuple[str, dict[str, object]]] = {
    ".csv": ("csv", ONLY_EMPTY_IS_NULL),
    ".tsv": ("csv", {"sep": "\t", **ONLY_EMPTY_IS_NULL}),
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".parquet": ("parquet", {}),
}
PART = re.compile(r"-\d+-of-\d+$")
SUFFIXES = (*READERS, CONLL)
FORMATS = ", ".join(suffix[1:] for suffix in SUFFIXES)


@dataclass(frozen=True)
class Source:
    """Where the rows of each split are, read when asked for."""

    name: str
    readers: Mapping[str, Callable[[], "Dataset"]]  # split -> its rows
    commit: str | None = None  # of a Hub dataset
    files: Mapping[str, Path] = field(default_factory=dict)  # of splits that are one file

    def read(self, split: str, *, key: str) -> "Dataset":
        """Read one split.

        Args:
            key: the recipe key that asks for it, for the error.

        Raises:
            DataError: there is no such split, or its files cannot be read.
        """
        if split not in self.readers:
            names = ", ".join(self.readers)
            near = did_you_mean(split, self.readers)
            raise DataError(
                f"{key}.split: {self.name} has no split {split!r}{near}; it has {names}; name one, "
                f"or a file with {key}.file"
                + ("" if key == "data.train" else f", or {key}.split=null and {key}.fraction")
            )
        return self.readers[split]()


def open_source(config: DataConfig) -> Source:
    """Open `data.source`; a single file is the split `train`.

    Raises:
        DataError: it is not there.
    """
    name, path = config.source, Path(config.source).expanduser()
    if name.startswith(EMBEDDED_PREFIX):
        path = EMBEDDED / name.removeprefix(EMBEDDED_PREFIX)
        if not path.is_dir():
            names = sorted(EMBEDDED_PREFIX + folder.name for folder in EMBEDDED.iterdir())
            near = did_you_mean(name, names) or f"; there is {', '.join(names)}"
            raise DataError(f"data.source: {name}: no such embedded data{near}")
    if path.is_dir():
        parts = _folder_parts(path)
        readers = {split: partial(_read_files, files) for split, files in parts.items()}
        whole = {split: files[0] for split, files in parts.items() if len(files) == 1}
        return Source(name, readers, files=whole)
    if path.is_file():
        return Source(name, {"train": partial(read_file, path)}, files={"train": path})
    if path.suffix in SUFFIXES or name.startswith((".", "/", "~")) or name.count("/") > 1:
        near = did_you_mean(path.name, _neighbours(path), prefix=f"{path.parent}/")
        raise DataError(
            f"data.source: {name}: no such file or folder (looked from {Path.cwd()}){near}"
        )
    return _open_hub(config)


def read_file(path: Path, form: str | None = None) -> "Dataset":
    """Read the rows of one csv, tsv, json, jsonl, parquet or conll file.

    Args:
        form: which of them it is; None for its suffix.

    Raises:
        DataError: there is no such file, or it is malformed (with the line where that is known).
    """
    import datasets

    if not path.is_file():
        near = did_you_mean(path.name, _neighbours(path), prefix=f"{path.parent}/")
        raise DataError(f"{path}: no such file (looked from {Path.cwd()}){near}")
    suffix = f".{form}" if form else path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: found a {path.suffix or 'nameless'} file, expected {FORMATS}")
    if not path.stat().st_size:
        raise DataError(f"{path}: the file is empty")
    if suffix == CONLL:
        return read_conll(path)
    reader, options = READERS[suffix]
    try:
        splits = datasets.load_dataset(reader, data_files=glob.escape(str(path)), **options)
    except (datasets.exceptions.DatasetGenerationError, ValueError, OSError) as error:
        raise DataError(f"{path}: {_explain_malformed(path, error)}") from None
    return splits["train"]


def _folder_parts(path: Path) -> dict[str, list[Path]]:
    """One split for each data file: train.csv is `train`, test-00000-of-00002.parquet `test`."""
    places = [path, path / "data"]  # the latter as in a clone of a Hub dataset
    files: dict[str, list[Path]] = {}
    for file in sorted(file for place in places for file in place.glob("[!.]*")):
        if file.suffix.lower() in SUFFIXES:
            split = PART.sub("", file.stem)
            files.setdefault(split, []).append(file)
            if split == file.stem and len(files[split]) > 1:
                raise DataError(
                    f"data.source: {path}: {' and '.join(map(str, files[split]))} are both the "
                    f"split {split!r}; keep one"
                )
    if not files:
        raise DataError(f"data.source: {path}: no data file in this folder, expected {FORMATS}")
    return files


def _read_files(paths: list[Path]) -> "Dataset":
    import datasets

    try:
        return datasets.concatenate_datasets([read_file(path) for path in paths])
    except ValueError as error:
        raise DataError(f"{paths[0]} and its other parts differ: {first_line(error)}") from None


def _open_hub(config: DataConfig) -> Source:
    import datasets
    import huggingface_hub.constants

    commit, reason = config.revision, HubUnreachable("the connection broke off")
    try:
        commit = find_commit(
            config.source, kind="dataset", revision=config.revision, error=DataError
        )
    except HubUnreachable as fault:
        # Only the cache is left: without this, load_dataset would retry for half a minute.
        huggingface_hub.constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
        reason = fault
    try:
        splits = datasets.load_dataset(config.source, config.subset, revision=commit)
    except ConnectionError:
        raise DataError(reason.explain(config.source, "dataset")) from None
    except (datasets.exceptions.DatasetsError, ValueError, OSError, RuntimeError) as error:
        raise DataError(f"{config.source}: {first_line(error)}") from None
    readers = {name: partial(splits.__getitem__, name) for name in splits}
    return Source(config.source, readers, commit)


def _neighbours(path: Path) -> list[str]:
    return [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []


def _explain_malformed(path: Path, error: Exception) -> str:
    """Find the first line that cannot be read; else pass on what the reader said."""
    if path.suffix != ".parquet":
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as fault:
                return f"line {number}: not UTF-8 at byte {fault.start}; save the file as UTF-8"
            if path.suffix == ".jsonl" and text.strip():
                try:
                    json.loads(text)
                except json.JSONDecodeError as fault:
                    return f"line {number}: not JSON: {fault.msg} at column {fault.colno}"
    if path.suffix == ".json":
        try:
            json.loads(path.read_text(encoding="utf-8-sig"))
        except json.JSONDecodeError as fault:
            return f"line {fault.lineno}: not JSON: {fault.msg} at column {fault.colno}"
    if path.suffix in (".csv", ".tsv"):
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
            width, start = None, 1
            try:
                for row in rows:
                    width = width or len(row)
                    if len(row) != width:
                        return f"line {start}: found {len(row)} columns, expected {width}"
                    start = rows.line_num + 1
            except csv.Error as fault:
                return f"line {start}: {fault} (an unbalanced quote?)"
        if start == 2:
            return "found the names of columns, but no rows"
    cause = error.__cause__ or error
    return first_line(cause)
