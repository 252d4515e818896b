"""A disk cache of arrays and tables, keyed by everything that they are computed from.

Its directory is `$LORA_TUNE_CACHE`, by default `~/.cache/lora_tune`; an empty value disables the
cache. The least recently used files are deleted once all files take more than MAX_BYTES.
"""

import hashlib
import mmap
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from lora_tune.system.environment import library_versions

if TYPE_CHECKING:
    from torch.nn import Module

VARIABLE = "LORA_TUNE_CACHE"
MAX_BYTES = 4 * 10**9
DIGEST_BYTES = 32
LENGTHS = "/lengths"  # suffix of the name of an array with the lengths of concatenated rows

Arrays = dict[str, np.ndarray]


def get_or_compute(
    kind: str,
    key: Mapping[str, str],
    compute: Callable[[], Arrays],
    *,
    code: tuple[str, ...],
) -> Arrays:
    """Read arrays from the cache, or compute and store them.

    Args:
        kind: what the arrays are, such as `tokens`; a subdirectory of the cache.
        key: everything that the arrays depend on, except code, libraries and hardware.
        compute: computes the arrays where the cache does not have them.
        code: the folders of lora_tune with the code that the arrays depend on. An edit in one of
            them, or in this file, invalidates the arrays; an edit elsewhere does not.
    """
    folder = _cache_folder()
    if folder is None:
        return compute()
    path = folder / kind / f"{_hash_key(key, code)}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
        os.utime(path)  # marks the file as used now
        return arrays
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):  # missing or damaged
        arrays = compute()
    try:
        _store(path, arrays)
        _delete_oldest(folder)
    except OSError:  # such as a full disk: the next run has to compute the arrays again
        pass
    return arrays


def get_or_write(
    kind: str,
    key: Mapping[str, str],
    write: Callable[[IO[bytes]], None],
    *,
    code: tuple[str, ...],
) -> mmap.mmap:
    """Map a file of the cache into memory, or write it first; its content takes no memory.

    The file ends with the SHA-256 of what is before it. Without a cache, or where it cannot be
    written, the file is a temporary one.

    Args:
        kind: what the file holds, such as `tokens`; a subdirectory of the cache.
        key: everything that the content depends on, except code, libraries and hardware.
        write: writes the content to a file.
        code: the folders of lora_tune with the code that the content depends on.
    """
    folder = _cache_folder()
    if folder is not None:
        path = folder / kind / f"{_hash_key(key, code)}.arrow"
        found = _open_checked(path)
        if found is not None:
            return found
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            return _write_checked(path, write, folder)
        except OSError:  # such as a full disk: the next run has to write it again
            pass
    with tempfile.TemporaryFile(prefix="lora_tune-") as file:
        write(file)
        file.flush()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def hash_model(model: "Module") -> str:
    """Hash a model's tensors, configuration and generation configuration (SHA-256)."""
    import torch

    configs = [repr(getattr(model, name, None)) for name in ("config", "generation_config")]
    digest = hashlib.sha256("\n".join(configs).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def hash_rows(columns: Mapping[str, Sequence[Any]]) -> str:
    """Hash columns of rows (SHA-256)."""
    digest = hashlib.sha256()
    for name, rows in sorted(columns.items()):
        digest.update(f"{name} {len(rows)}\n".encode())
        for row in rows:
            digest.update(repr(row).encode(errors="surrogatepass"))
    return digest.hexdigest()


def pack(name: str, rows: Sequence[Any]) -> Arrays:
    """Concatenate rows of different lengths into one array.

    Args:
        name: of the array.
        rows: arrays (length, ...), or one number each.

    Returns:
        name -> (total length, ...), and name + LENGTHS -> (rows,); for numbers, name -> (rows,).
    """
    values = [np.asarray(row) for row in rows]
    if all(value.ndim == 0 for value in values):
        return {name: np.array(rows)}
    return {name: np.concatenate(values), name + LENGTHS: np.array(list(map(len, values)))}


def unpack(name: str, arrays: Arrays) -> list[np.ndarray]:
    """Split an array of `pack` into its rows."""
    lengths = arrays.get(name + LENGTHS)
    if lengths is None:
        return list(arrays[name])
    return np.split(arrays[name], np.cumsum(lengths)[:-1])


def _cache_folder() -> Path | None:
    value = os.environ.get(VARIABLE)
    if value is None:
        return Path.home() / ".cache" / "lora_tune"
    return Path(value).expanduser() if value else None


def _hash_key(key: Mapping[str, str], code: tuple[str, ...]) -> str:
    described = "\n".join(f"{name} {value}" for name, value in sorted(key.items()))
    return hashlib.sha256(f"{_hash_code(code)}\n{described}".encode()).hexdigest()


def _open_checked(path: Path) -> mmap.mmap | None:
    """Map a file whose content is what was written; None where it is missing or damaged."""
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        os.utime(path)  # marks the file as used now
    except (OSError, ValueError):  # an empty file cannot be mapped
        return None
    with memoryview(mapped) as content:
        end = len(content) - DIGEST_BYTES
        is_whole = end > 0 and hashlib.sha256(content[:end]).digest() == content[end:]
    return mapped if is_whole else None


def _write_checked(path: Path, write: Callable[[IO[bytes]], None], folder: Path) -> mmap.mmap:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            write(file)
            file.seek(0)
            file.write(hashlib.file_digest(file, "sha256").digest())
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    _delete_oldest(folder)
    return mapped


def _store(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _delete_oldest(folder: Path) -> None:
    files = sorted(folder.glob("*/*.*"), key=lambda path: path.stat().st_mtime, reverse=True)
    total = 0
    for path in files:
        total += path.stat().st_size
        if total > MAX_BYTES:
            path.unlink(missing_ok=True)


@cache
def _hash_code(folders: tuple[str, ...]) -> str:
    """Hash the code in some folders, library versions and the hardware that arithmetic runs on."""
    import torch

    digest = hashlib.sha256(repr(sorted(library_versions().items())).encode())
    package = Path(__file__).parents[1]
    digest.update(Path(__file__).read_bytes())  # how arrays are packed
    for folder in folders:
        for path in sorted((package / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    processor = torch.backends.cpu.get_cpu_capability()
    digest.update(f"{torch.get_num_threads()} {processor} {device}".encode())
    return digest.hexdigest()
