"""The source of a recipe's rows: files, folders, a Hub dataset or a data set of the package."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lora_tune.config.data import DataConfig
from lora_tune.data.columns import named_columns
from lora_tune.data.file_reader import (
    FORMATS,
    SUFFIXES,
    TEXT_COLUMN,
    concatenate,
    read_file,
    suggest_path,
)
from lora_tune.data.table import Record, Table, collect_table
from lora_tune.data.text_file import open_text
from lora_tune.data.typed_rows import convert_dataset
from lora_tune.errors import DataError, did_you_mean, first_line
from lora_tune.system.hub import HubUnreachable, find_commit, offline

EMBEDDED_PREFIX = "embedded:"
EMBEDDED = Path(__file__).parent / "embedded"
PART = re.compile(r"-\d+-of-\d+$")  # in the names of a split's files, as on the Hub
FILE_COLUMN = "file"  # the name of each file, where a file is a row


@dataclass(frozen=True)
class Source:
    """An opened source; the rows of a split are read when they are needed."""

    name: str
    readers: Mapping[str, Callable[[], Table]]  # split -> reads its rows
    commit: str | None = None  # of a Hub dataset
    files: Mapping[str, Path] = field(default_factory=dict)  # split -> its file, if it is one file

    def read(self, split: str, *, key: str) -> Table:
        """Read one split.

        Args:
            split: its name in the source.
            key: the recipe key that names the split, for the error.

        Raises:
            DataError: the split does not exist, or its files cannot be read.
        """
        if split not in self.readers:
            names = ", ".join(self.readers)
            near = did_you_mean(split, self.readers)
            raise DataError(
                f"{key}.split: {self.name} has no split {split!r}{near}; it has {names}; name one "
                f"of these, or set {key}.file"
                + ("" if key == "data.train" else f", or {key}.split=null and {key}.fraction")
            )
        return self.readers[split]().check()


def open_source(config: DataConfig) -> Source:
    """Open `data.source`; a single file, or a file for each class, becomes the split `train`.

    Raises:
        DataError: the source does not exist.
    """
    if isinstance(config.source, dict):
        return _open_class_files(config, config.source)
    name, path = config.source, Path(config.source).expanduser()
    if name.startswith(EMBEDDED_PREFIX):
        path = EMBEDDED / name.removeprefix(EMBEDDED_PREFIX)
        if not path.is_dir():
            names = sorted(EMBEDDED_PREFIX + folder.name for folder in EMBEDDED.iterdir())
            near = did_you_mean(name, names) or f"; expected {', '.join(names)}"
            raise DataError(f"data.source: {name}: no such embedded data set{near}")
    if os.path.isdir(path):  # False, not an error, for a name that is too long
        return _open_folder(config, name, path)
    if os.path.isfile(path):
        reader = partial(read_recipe_file, path, config)
        return Source(name, {"train": reader}, files={"train": path})
    if path.suffix.lower() in SUFFIXES or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise DataError(
            f"data.source: {name}: no such file or folder (looked from {Path.cwd()})"
            f"{suggest_path(path)}"
        )
    return _open_hub_dataset(config, name)


def read_recipe_file(path: Path, config: DataConfig, file_format: str | None = None) -> Table:
    """Read a file as a recipe says: its format, and the column of a file without columns.

    Raises:
        DataError: the file does not exist, or is no file of its format.
    """
    column = text_column_of(config)
    return read_file(path, config.format, file_format=file_format, text_column=column)


def text_column_of(config: DataConfig) -> str:
    """Name the column of files that have none, such as txt."""
    return TEXT_COLUMN if named_columns(config.text) else config.text


def _open_folder(config: DataConfig, name: str, path: Path) -> Source:
    files = _files_by_split(path)
    if files:
        readers = {split: partial(_read_files, paths, config) for split, paths in files.items()}
        single = {split: paths[0] for split, paths in files.items() if len(paths) == 1}
        return Source(name, readers, files=single)
    splits = {
        split.name: {folder.name: folder for folder in _folders(split) if _texts(folder)}
        for split in _folders(path)
    }
    splits = {split: found for split, found in splits.items() if found}
    if not splits:  # the folders are classes
        classes = {folder.name: folder for folder in _folders(path)}
        if any(map(_texts, classes.values())):
            splits = {"train": classes}
    if not splits:
        raise DataError(
            f"data.source: {path}: no data file in this folder, expected {', '.join(FORMATS)}, or "
            "a folder of txt files for each class"
        )
    return Source(
        name,
        {split: partial(_read_classes, found, config, name) for split, found in splits.items()},
    )


def _open_class_files(config: DataConfig, classes: Mapping[str, str]) -> Source:
    paths = {label: Path(file).expanduser() for label, file in classes.items()}
    for label, path in paths.items():
        if not os.path.exists(path):
            raise DataError(
                f"data.source.{label}: {path}: no such file or folder (looked from {Path.cwd()})"
                f"{suggest_path(path)}"
            )
    name = ", ".join(f"{label}: {path}" for label, path in paths.items())
    return Source(name, {"train": partial(_read_classes, paths, config, name)})


def _read_classes(classes: Mapping[str, Path], config: DataConfig, name: str) -> Table:
    """Read a file, or a folder of txt files, for each class; the label is that of the class."""
    notes: list[str] = []

    def records() -> Iterator[Record]:
        for label, path in classes.items():
            if path.is_dir():
                table = _read_folder(path, config)
                left_out = len([*path.glob("[!.]*")]) - len(table)
                if not len(table):
                    raise DataError(f"{path}: no txt file for the class {label!r}")
                if left_out:
                    notes.append(f"{path}: left out {left_out} entries that are not txt files.")
            else:
                table = read_recipe_file(path, config).check()
            if config.label in table.column_names:
                raise DataError(
                    f"data.source.{label}: {path} has a column {config.label!r}, and its class is "
                    f"{label!r}; set data.label to a name that no file has"
                )
            notes.extend(table.notes)
            for row in table.check(table.column_names).rows():
                yield Record(None, {**row, config.label: label})

    table = collect_table(records(), name)
    return Table(name, table.cells, table.row_numbers, notes=tuple(notes))


def _read_folder(folder: Path, config: DataConfig) -> Table:
    """Read the txt files of a folder, each of them a row."""

    def records() -> Iterator[Record]:
        for path in _texts(folder):
            if not path.stat().st_size:
                yield Record(None, {FILE_COLUMN: path.name})
                continue
            opened = open_text(path, str(path), config.format.encoding)
            try:
                with opened.file as file:
                    text = file.read()
            except UnicodeError as error:
                raise DataError(f"{path}: not {opened.encoding}: {error}") from None
            yield Record(None, {text_column_of(config): text, FILE_COLUMN: path.name})

    return collect_table(records(), str(folder))


def _folders(path: Path) -> list[Path]:
    return [folder for folder in sorted(path.glob("[!.]*")) if folder.is_dir()]


def _texts(folder: Path) -> list[Path]:
    found = sorted(folder.glob("[!.]*"))
    return [file for file in found if file.suffix.lower() == ".txt" and file.is_file()]


def _files_by_split(path: Path) -> dict[str, list[Path]]:
    """Group a folder's files by split: train.csv, or train-00000-of-00002.parquet and the rest.

    Text files count only where there is no other data file and no folder.
    """
    folders = [path, path / "data"]  # the second as in a clone of a Hub dataset
    found = sorted(file for folder in folders for file in folder.glob("[!.]*"))
    tables = [file for file in found if file.suffix.lower() in SUFFIXES and file.suffix != ".txt"]
    if not tables and not _folders(path):
        tables = _texts(path)
    files: dict[str, list[Path]] = {}
    for file in tables:
        split = PART.sub("", file.stem)
        files.setdefault(split, []).append(file)
        if split == file.stem and len(files[split]) > 1:
            raise DataError(
                f"data.source: {path}: {' and '.join(map(str, files[split]))} are both the "
                f"split {split!r}; keep one of them"
            )
    for split, parts in files.items():
        last = PART.search(parts[-1].stem)
        if last and len(parts) != int(last[0].rpartition("-")[2]):
            raise DataError(
                f"data.source: {path}: found {len(parts)} files of {split}{last[0]}, expected "
                f"{int(last[0].rpartition('-')[2])}; a file is missing"
            )
    return files


def _read_files(paths: list[Path], config: DataConfig) -> Table:
    tables = [read_recipe_file(path, config) for path in paths]
    return concatenate(tables, str(paths[0].parent))


def _open_hub_dataset(config: DataConfig, source: str) -> Source:
    import datasets

    commit, reason = config.revision, HubUnreachable("the connection was interrupted")
    only_cached = False
    try:
        commit = find_commit(source, kind="dataset", revision=config.revision, error=DataError)
    except HubUnreachable as cause:
        only_cached, reason = True, cause
    try:
        # Offline where the Hub does not answer: load_dataset would retry for half a minute.
        with offline() if only_cached else nullcontext():
            splits = datasets.load_dataset(source, config.subset, revision=commit)
    except ConnectionError:
        raise DataError(reason.explain(source, "dataset")) from None
    except (datasets.exceptions.DatasetsError, ValueError, OSError, RuntimeError) as error:
        raise DataError(f"{source}: {first_line(error)}") from None
    readers = {
        name: partial(convert_dataset, splits[name], f"{source}, split {name}") for name in splits
    }
    return Source(source, readers, commit)
