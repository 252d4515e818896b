"""The source of a recipe's rows: a file, a folder, a Hub dataset or a data set of the package."""

import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lora_tune.config.data import DataConfig
from lora_tune.data.file_reader import FORMATS, SUFFIXES, read_file, read_files, suggest_path
from lora_tune.errors import DataError, did_you_mean, first_line
from lora_tune.system.hub import HubUnreachable, find_commit, offline

if TYPE_CHECKING:
    from datasets import Dataset

EMBEDDED_PREFIX = "embedded:"
EMBEDDED = Path(__file__).parent / "embedded"
PART = re.compile(r"-\d+-of-\d+$")  # in the names of a split's files, as on the Hub


@dataclass(frozen=True)
class Source:
    """An opened source; the rows of a split are read when they are needed."""

    name: str
    readers: Mapping[str, Callable[[], "Dataset"]]  # split -> reads its rows
    commit: str | None = None  # of a Hub dataset
    files: Mapping[str, Path] = field(default_factory=dict)  # split -> its file, if it is one file

    def read(self, split: str, *, key: str) -> "Dataset":
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
        return self.readers[split]()


def open_source(config: DataConfig) -> Source:
    """Open `data.source`; a single file becomes the split `train`.

    Raises:
        DataError: the source does not exist.
    """
    name, path = config.source, Path(config.source).expanduser()
    if name.startswith(EMBEDDED_PREFIX):
        path = EMBEDDED / name.removeprefix(EMBEDDED_PREFIX)
        if not path.is_dir():
            names = sorted(EMBEDDED_PREFIX + folder.name for folder in EMBEDDED.iterdir())
            near = did_you_mean(name, names) or f"; expected {', '.join(names)}"
            raise DataError(f"data.source: {name}: no such embedded data set{near}")
    if path.is_dir():
        files = _files_by_split(path)
        readers = {split: partial(read_files, paths) for split, paths in files.items()}
        single = {split: paths[0] for split, paths in files.items() if len(paths) == 1}
        return Source(name, readers, files=single)
    if path.is_file():
        return Source(name, {"train": partial(read_file, path)}, files={"train": path})
    if path.suffix in SUFFIXES or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise DataError(
            f"data.source: {name}: no such file or folder (looked from {Path.cwd()})"
            f"{suggest_path(path)}"
        )
    return _open_hub_dataset(config)


def _files_by_split(path: Path) -> dict[str, list[Path]]:
    """Group a folder's files by split: train.csv, or train-00000-of-00002.parquet and the rest."""
    folders = [path, path / "data"]  # the second as in a clone of a Hub dataset
    files: dict[str, list[Path]] = {}
    for file in sorted(file for folder in folders for file in folder.glob("[!.]*")):
        if file.suffix.lower() in SUFFIXES:
            split = PART.sub("", file.stem)
            files.setdefault(split, []).append(file)
            if split == file.stem and len(files[split]) > 1:
                raise DataError(
                    f"data.source: {path}: {' and '.join(map(str, files[split]))} are both the "
                    f"split {split!r}; keep one of them"
                )
    if not files:
        raise DataError(f"data.source: {path}: no data file in this folder, expected {FORMATS}")
    return files


def _open_hub_dataset(config: DataConfig) -> Source:
    import datasets

    commit, reason = config.revision, HubUnreachable("the connection was interrupted")
    only_cached = False
    try:
        commit = find_commit(
            config.source, kind="dataset", revision=config.revision, error=DataError
        )
    except HubUnreachable as cause:
        only_cached, reason = True, cause
    try:
        # Offline where the Hub does not answer: load_dataset would retry for half a minute.
        with offline() if only_cached else nullcontext():
            splits = datasets.load_dataset(config.source, config.subset, revision=commit)
    except ConnectionError:
        raise DataError(reason.explain(config.source, "dataset")) from None
    except (datasets.exceptions.DatasetsError, ValueError, OSError, RuntimeError) as error:
        raise DataError(f"{config.source}: {first_line(error)}") from None
    readers = {name: partial(splits.__getitem__, name) for name in splits}
    return Source(config.source, readers, commit)
