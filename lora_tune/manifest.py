"""What an adapter directory holds and what it was made from: written once, checked before use.

The check tells damage and mistakes, not malice: a manifest bears no signature.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_tune.base import Base, weights_files
from lora_tune.environment import library_versions
from lora_tune.errors import ArtifactError, first_line
from lora_tune.redaction import redact

if TYPE_CHECKING:
    import torch

MANIFEST_FILE = "manifest.json"
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
LABELS_FILE = "labels.json"  # their names, in the order of their numbers
CARD_FILE = "README.md"  # prose, to be edited here or on the Hub: no part of what is verified
FORMAT = 1
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@dataclass(frozen=True)
class FileRecord:
    """A file as it was written."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class TensorRecord:
    """A tensor as it was trained."""

    shape: list[int]
    sha256: str  # of its bytes


@dataclass(frozen=True)
class BaseRecord:
    """The base that an adapter was trained on."""

    name: str  # a Hub id, or an absolute path
    revision: str | None  # Hub commit
    quantization: str | None  # 4bit or 8bit, while training
    weights_sha256: dict[str, str]  # by file


@dataclass(frozen=True)
class Manifest:
    """Everything that must be so for an adapter to answer as it did when it was trained."""

    format: int
    task: str
    labels: list[str]  # in the order of their numbers
    base: BaseRecord
    files: dict[str, FileRecord]  # every file of the directory but manifest and card
    tensors: dict[str, TensorRecord]  # of the weights file
    recipe_name: str
    recipe: str  # YAML as run, interpolations unresolved
    data_fingerprint: str  # of texts and labels of all splits
    versions: dict[str, str]  # of the libraries it was trained with


def record_tensors(tensors: "Mapping[str, torch.Tensor]") -> dict[str, TensorRecord]:
    """Hash tensors, on any device, by name."""
    return {
        name: TensorRecord(list(tensor.shape), hashlib.sha256(_raw_bytes(tensor)).hexdigest())
        for name, tensor in sorted(tensors.items())
    }


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Hash every file of an adapter directory that a manifest answers for."""
    return {
        path.name: FileRecord(path.stat().st_size, _file_sha256(path))
        for path in sorted(folder.iterdir())
        if path.name not in (MANIFEST_FILE, CARD_FILE)
    }


def record_base(base: Base, quantization: str | None) -> BaseRecord:
    """Hash a base model's weights files."""
    hashes = {path.name: _file_sha256(path) for path in weights_files(base.folder)}
    return BaseRecord(base.name, base.revision, quantization, hashes)


def seal_adapter(
    folder: Path,
    card: str,
    *,
    task: str,
    labels: Sequence[str],
    base: Base,
    quantization: str | None,
    tensors: "Mapping[str, torch.Tensor]",
    recipe_name: str,
    recipe: str,
    data_fingerprint: str,
) -> None:
    """Add card and manifest to an adapter directory that is complete but for them.

    Args:
        tensors: as they were trained, in memory, so that a fault in saving them shows.
        recipe: its YAML, interpolations unresolved.
    """
    manifest = Manifest(
        format=FORMAT,
        task=task,
        labels=list(labels),
        base=record_base(base, quantization),
        files=record_files(folder),
        tensors=record_tensors(tensors),
        recipe_name=recipe_name,
        recipe=redact(recipe),
        data_fingerprint=data_fingerprint,
        versions=library_versions(),
    )
    (folder / CARD_FILE).write_text(redact(card), encoding="utf-8")
    text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False)
    (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")


def verify_adapter(folder: Path) -> Manifest:
    """Check every file of an adapter directory against its manifest.

    Raises:
        ArtifactError: one line: what is missing, cut short, changed or not what it should be.
    """
    _check_is_adapter(folder)
    manifest = read_manifest(folder)
    for name, record in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ArtifactError(f"{path}: is missing; {MANIFEST_FILE} lists it")
        if _file_sha256(path) != record.sha256:
            raise ArtifactError(f"{path}: {_explain_change(path, manifest)}")
    for name, tensor in _read_tensors(folder / WEIGHTS_FILE).items():
        if not tensor.isfinite().all():
            raise ArtifactError(f"{folder / WEIGHTS_FILE}: {name} holds NaN or infinite values")
    config, labels = (_read_json(folder / name) for name in (CONFIG_FILE, LABELS_FILE))
    for name, found, expected in (
        (LABELS_FILE, labels, manifest.labels),
        (CONFIG_FILE, config.get("base_model_name_or_path"), manifest.base.name),
        (CONFIG_FILE, config.get("revision"), manifest.base.revision),
    ):
        if found != expected:
            raise ArtifactError(
                f"{folder / name}: says {found!r}, but {MANIFEST_FILE} {expected!r}"
            )
    return manifest


def verify_base(base: Base, manifest: Manifest) -> None:
    """Check that a base's weights are those that an adapter was trained on.

    Raises:
        ArtifactError: they are others.
    """
    found = record_base(base, None).weights_sha256
    expected = manifest.base.weights_sha256
    if sorted(found.values()) != sorted(expected.values()):
        name = next((name for name in expected if found.get(name) != expected[name]), "")
        raise ArtifactError(
            f"{base.name}: not the base that the adapter was trained on: SHA-256 of {name} is "
            f"{found.get(name, 'absent')}, expected {expected.get(name)}"
        )


def read_manifest(folder: Path) -> Manifest:
    """Read a manifest, without checking what it says of other files.

    Raises:
        ArtifactError: there is none, or it is damaged or of another format.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise ArtifactError(
            f"{folder}: has no {MANIFEST_FILE}, so nothing tells whether it is whole; `train` "
            "writes one"
        )
    content = _read_json(path)
    if content.get("format") != FORMAT:
        raise ArtifactError(
            f"{path}: its format is {content.get('format')!r}, expected {FORMAT}; it was written "
            "by another version of lora_tune"
        )
    try:
        manifest = Manifest(
            **content
            | {
                "base": BaseRecord(**content["base"]),
                "files": {name: FileRecord(**entry) for name, entry in content["files"].items()},
                "tensors": {n: TensorRecord(**entry) for n, entry in content["tensors"].items()},
            }
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path}: damaged: {first_line(error)}") from None
    astray = [name for name in manifest.files if Path(name).name != name or name.startswith(".")]
    needed = [n for n in (CONFIG_FILE, WEIGHTS_FILE, LABELS_FILE) if n not in manifest.files]
    if astray or needed:
        raise ArtifactError(
            f"{path}: damaged: it "
            + (f"lists {astray[0]!r}, no plain file name" if astray else f"lacks {needed[0]}")
        )
    return manifest


def _check_is_adapter(folder: Path) -> None:
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: no such adapter directory (looked from {Path.cwd()})")
    if (folder / "adapter" / CONFIG_FILE).is_file():
        raise ArtifactError(f"{folder}: this is a run directory; its adapter is {folder}/adapter")
    if not (folder / CONFIG_FILE).is_file():
        raise ArtifactError(f"{folder}: has no {CONFIG_FILE}, so it is no adapter directory")
    if not (folder / WEIGHTS_FILE).is_file():
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
        found = f"; {pickles[0]} is a pickle, which is not loaded" if pickles else ""
        raise ArtifactError(f"{folder}: has no {WEIGHTS_FILE}{found}")


def _explain_change(path: Path, manifest: Manifest) -> str:
    """Say how a file differs from what the manifest says, as closely as can be told."""
    size, expected_size = path.stat().st_size, manifest.files[path.name].size_bytes
    if path.name == WEIGHTS_FILE:
        fault = _explain_tensors(path, manifest.tensors)
        if fault:
            return fault
    if path.name == LABELS_FILE and size:
        found = path.read_text("utf-8", "replace").strip().replace("\n", " ")
        expected = json.dumps(manifest.labels, ensure_ascii=False)
        return f"says {found}, but the adapter was trained with {expected}"
    if size < expected_size:
        return f"is cut short: {size} of {expected_size} bytes"
    return (
        f"was changed since training: SHA-256 is {_file_sha256(path)}, expected "
        f"{manifest.files[path.name].sha256}"
    )


def _explain_tensors(path: Path, expected: Mapping[str, TensorRecord]) -> str | None:
    try:
        tensors = _read_tensors(path)
    except ArtifactError:
        return None
    found = record_tensors(tensors)
    if found.keys() != expected.keys():
        tensor = min(found.keys() ^ expected.keys())
        return f"{'lacks' if tensor in expected else 'has no place for'} the tensor {tensor}"
    for name, record in found.items():
        if record.shape != expected[name].shape:
            return f"{name} has the shape {record.shape}, expected {expected[name].shape}"
        if record.sha256 != expected[name].sha256:
            if not tensors[name].isfinite().all():
                return f"{name} holds NaN or infinite values"
            return f"its tensor {name} was changed since training"
    return None


def _read_tensors(path: Path) -> "dict[str, torch.Tensor]":
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path}: damaged: {first_line(error)}") from None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{path}: damaged: {first_line(error)}") from None


def _raw_bytes(tensor: "torch.Tensor") -> bytes:
    import torch

    plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return plain.numpy().tobytes()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
