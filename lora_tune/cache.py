"""Arrays that were computed before from the same content by the same code, kept on this machine.

They lie in `$LORA_TUNE_CACHE`, or `~/.cache/lora_tune`; an empty value keeps none. What was used
longest ago goes when they take more than MOST_BYTES.
"""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.environment import library_versions

if TYPE_CHECKING:
    from torch.nn import Module

VARIABLE = "LORA_TUNE_CACHE"
MOST_BYTES = 4 * 10**9
LENGTHS = "/lengths"  # after the name of rows that were laid end to end

Arrays = dict[str, np.ndarray]


def recall(kind: str, key: Mapping[str, str], make: Callable[[], Arrays]) -> Arrays:
    """Give arrays that were made before, or make and keep them.

    Args:
        kind: of content; a folder of the cache.
        key: all that the arrays depend on, but for lora_tune's code and the libraries.
    """
    folder = _folder()
    if folder is None:
        return make()
    told = "\n".join(f"{name} {value}" for name, value in sorted(key.items()))
    digest = hashlib.sha256(f"{_code_sha256()}\n{told}".encode()).hexdigest()
    path = folder / kind / f"{digest}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            arrays = dict(kept)
        os.utime(path)  # it was used just now
        return arrays
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):  # not there, or damaged
        arrays = make()
    try:
        _keep(path, arrays)
        _prune(folder)
    except OSError:  # nothing is lost but time: a full disk, a folder that cannot be written
        pass
    return arrays


def hash_model(model: "Module") -> str:
    """Hash a model's tensors, its configuration and how it writes (SHA-256)."""
    import torch

    told = [repr(getattr(model, name, None)) for name in ("config", "generation_config")]
    digest = hashlib.sha256("\n".join(told).encode())
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
    """Lay rows of unequal length end to end: arrays (length, ...) each, or single numbers."""
    values = [np.asarray(row) for row in rows]
    if all(value.ndim == 0 for value in values):
        return {name: np.array(rows)}
    return {name: np.concatenate(values), name + LENGTHS: np.array(list(map(len, values)))}


def unpack(name: str, arrays: Arrays) -> list[np.ndarray]:
    """Give back what `pack` laid end to end."""
    lengths = arrays.get(name + LENGTHS)
    if lengths is None:
        return list(arrays[name])
    return np.split(arrays[name], np.cumsum(lengths)[:-1])


def _folder() -> Path | None:
    named = os.environ.get(VARIABLE)
    if named is None:
        return Path.home() / ".cache" / "lora_tune"
    return Path(named).expanduser() if named else None


def _keep(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _prune(folder: Path) -> None:
    files = sorted(folder.glob("*/*.npz"), key=lambda path: path.stat().st_mtime, reverse=True)
    total = 0
    for path in files:
        total += path.stat().st_size
        if total > MOST_BYTES:
            path.unlink(missing_ok=True)


@cache
def _code_sha256() -> str:
    """Hash lora_tune's own code, the libraries' versions and what arithmetic depends on."""
    import torch

    digest = hashlib.sha256(repr(sorted(library_versions().items())).encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    processor = torch.backends.cpu.get_cpu_capability()
    digest.update(f"{torch.get_num_threads()} {processor} {device}".encode())
    return digest.hexdigest()
