"""An adapter directory and its base, checked against the manifest before they are used.

The check tells damage and mistakes, not malice: a manifest bears no signature.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lora_tune.base import CONFIG_FILE as BASE_CONFIG_FILE
from lora_tune.base import Base
from lora_tune.errors import ArtifactError, first_line
from lora_tune.manifest import (
    CONFIG_FILE,
    LABELS_FILE,
    MANIFEST_FILE,
    PICKLES,
    WEIGHTS_FILE,
    Manifest,
    TensorRecord,
    file_sha256,
    read_json,
    read_manifest,
    record_base,
    record_tensors,
)

if TYPE_CHECKING:
    import torch


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
        if file_sha256(path) != record.sha256:
            raise ArtifactError(f"{path}: {_explain_change(path, manifest)}")
    fault = _explain_tensors(_read_tensors(folder / WEIGHTS_FILE), manifest.tensors)
    if fault:
        raise ArtifactError(f"{folder / WEIGHTS_FILE}: {fault}")
    config, labels = (read_json(folder / name) for name in (CONFIG_FILE, LABELS_FILE))
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
    record = record_base(base, manifest.base.loading())
    found, expected = record.weights_sha256, manifest.base.weights_sha256
    other = f"{base.name}: not the base that the adapter was trained on:"
    if sorted(found.values()) != sorted(expected.values()):
        astray = [n for n in {**expected, **found} if found.get(n) != expected.get(n)]
        raise ArtifactError(
            f"{other} SHA-256 of {astray[0]} is {found.get(astray[0], 'absent')}, expected "
            f"{expected.get(astray[0], 'no such file')}"
        )
    if record.config_sha256 != manifest.base.config_sha256:
        raise ArtifactError(f"{other} its weights are the same, but {BASE_CONFIG_FILE} differs")


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
        try:
            fault = _explain_tensors(_read_tensors(path), manifest.tensors)
        except ArtifactError:
            fault = None
        if fault:
            return fault
    if path.name == LABELS_FILE and size:
        found = path.read_text("utf-8", "replace").strip().replace("\n", " ")
        expected = json.dumps(manifest.labels, ensure_ascii=False)
        return f"says {found}, but the adapter was trained with {expected}"
    if size < expected_size:
        return f"is cut short: {size} of {expected_size} bytes"
    return (
        f"was changed since training: SHA-256 is {file_sha256(path)}, expected "
        f"{manifest.files[path.name].sha256}"
    )


def _explain_tensors(
    tensors: "Mapping[str, torch.Tensor]", expected: Mapping[str, TensorRecord]
) -> str | None:
    """Say how tensors differ from those trained, or that one is not finite; else None."""
    found = record_tensors(tensors)
    if found.keys() != expected.keys():
        tensor = min(found.keys() ^ expected.keys())
        return f"{'lacks' if tensor in expected else 'has no place for'} the tensor {tensor}"
    for name, record in found.items():
        if record.shape != expected[name].shape:
            return f"{name} has the shape {record.shape}, expected {expected[name].shape}"
        if not tensors[name].isfinite().all():
            return f"{name} holds NaN or infinite values"
        if record.sha256 != expected[name].sha256:
            return f"its tensor {name} was changed since training"
    return None


def _read_tensors(path: Path) -> "dict[str, torch.Tensor]":
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path}: damaged: {first_line(error)}") from None
