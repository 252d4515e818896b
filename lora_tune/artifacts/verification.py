"""Verifies a directory that `train` wrote, and its base model, against the manifest before use.

Verification finds damage and mistakes, not attacks: a manifest is not signed.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lora_tune.artifacts.manifest import (
    BASELINE_FILE,
    MANIFEST_FILE,
    PICKLES,
    Manifest,
    TensorRecord,
    file_sha256,
    read_json,
    read_manifest,
    record_checkpoint,
    record_tensors,
)
from lora_tune.errors import ArtifactError, first_line
from lora_tune.lora.adapter import CONFIG_FILE, LABELS_FILE, WEIGHTS_FILE
from lora_tune.models.checkpoint import CONFIG_FILE as BASE_CONFIG_FILE
from lora_tune.models.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch


def verify_files(folder: Path) -> Manifest:
    """Check every file of an adapter's or a baseline's directory against its manifest.

    Raises:
        ArtifactError: a file is missing, truncated or changed, or files contradict each other.
    """
    _check_directory(folder)
    manifest = read_manifest(folder)
    for name, record in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ArtifactError(f"{path}: does not exist, but {MANIFEST_FILE} lists it")
        if file_sha256(path) != record.sha256:
            raise ArtifactError(f"{path}: {_explain_change(path, manifest)}")
    weights = folder / manifest.weights_file
    problem = _explain_tensors(_read_tensors(weights), manifest.tensors)
    if problem:
        raise ArtifactError(f"{weights}: {problem}")
    if manifest.kind == "adapter":
        _check_adapter_files(folder, manifest)
    return manifest


def _check_adapter_files(folder: Path, manifest: Manifest) -> None:
    """Check that the files of an adapter, which PEFT reads, do not contradict the manifest."""
    assert manifest.base is not None
    config, labels = (read_json(folder / name) for name in (CONFIG_FILE, LABELS_FILE))
    for name, found, expected in (
        (LABELS_FILE, labels, manifest.labels),
        (CONFIG_FILE, config.get("base_model_name_or_path"), manifest.base.name),
        (CONFIG_FILE, config.get("revision"), manifest.base.revision),
    ):
        if found != expected:
            raise ArtifactError(
                f"{folder / name}: found {found!r}, expected {expected!r} as in {MANIFEST_FILE}"
            )


def verify_checkpoint(checkpoint: Checkpoint, manifest: Manifest) -> None:
    """Verify that a base model is the one that an adapter or a baseline was trained on.

    Raises:
        ArtifactError: its weights or its configuration differ.
    """
    assert manifest.base is not None
    record = record_checkpoint(checkpoint, manifest.base.model_config())
    found, expected = record.weights_sha256, manifest.base.weights_sha256
    where = f"{checkpoint.name}: not the base model that the {manifest.noun} was trained on:"
    if sorted(found.values()) != sorted(expected.values()):
        name = next(n for n in {**expected, **found} if found.get(n) != expected.get(n))
        raise ArtifactError(
            f"{where} the SHA-256 of {name} is {found.get(name, 'missing')}, expected "
            f"{expected.get(name, 'no such file')}"
        )
    if record.config_sha256 != manifest.base.config_sha256:
        raise ArtifactError(f"{where} its weights are the same, but {BASE_CONFIG_FILE} differs")


def _check_directory(folder: Path) -> None:
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: no such adapter directory (looked from {Path.cwd()})")
    if (folder / "adapter" / CONFIG_FILE).is_file():
        baseline = folder / "baseline"
        more = f", its baseline {baseline}" if (baseline / BASELINE_FILE).is_file() else ""
        raise ArtifactError(f"{folder}: is a run directory; its adapter is {folder}/adapter{more}")
    if (folder / BASELINE_FILE).is_file() or _names_baseline(folder / MANIFEST_FILE):
        return  # the manifest says what else belongs to a baseline
    if not (folder / CONFIG_FILE).is_file():
        raise ArtifactError(f"{folder}: has no {CONFIG_FILE}, so it is not an adapter directory")
    if not (folder / WEIGHTS_FILE).is_file():
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
        found = f"; found {pickles[0]}, a pickle, which is not safe to load" if pickles else ""
        raise ArtifactError(f"{folder}: has no {WEIGHTS_FILE}{found}")


def _names_baseline(manifest: Path) -> bool:
    """Whether a manifest, which may be missing or damaged, lists the file of a baseline."""
    return manifest.is_file() and f'"{BASELINE_FILE}"' in manifest.read_text("utf-8", "replace")


def _explain_change(path: Path, manifest: Manifest) -> str:
    """Describe how a file differs from its record in the manifest."""
    size, expected_size = path.stat().st_size, manifest.files[path.name].size_bytes
    if path.name == manifest.weights_file:
        try:
            problem = _explain_tensors(_read_tensors(path), manifest.tensors)
        except ArtifactError:
            problem = None
        if problem:
            return problem
    if path.name == LABELS_FILE and size:
        found = path.read_text("utf-8", "replace").strip().replace("\n", " ")
        expected = json.dumps(manifest.labels, ensure_ascii=False)
        return f"found {found}, but the adapter was trained with {expected}"
    if size < expected_size:
        return f"is truncated: {size} of {expected_size} bytes"
    return (
        f"was changed since training: its SHA-256 is {file_sha256(path)}, expected "
        f"{manifest.files[path.name].sha256}"
    )


def _explain_tensors(
    tensors: "Mapping[str, torch.Tensor]", expected: Mapping[str, TensorRecord]
) -> str | None:
    """Describe how tensors differ from the trained ones or are not finite; None if neither."""
    found = record_tensors(tensors)
    if found.keys() != expected.keys():
        tensor = min(found.keys() ^ expected.keys())
        return f"{'lacks the' if tensor in expected else 'has an unexpected'} tensor {tensor}"
    for name, record in found.items():
        if record.shape != expected[name].shape:
            return f"its tensor {name} has shape {record.shape}, expected {expected[name].shape}"
        if not tensors[name].isfinite().all():
            return f"its tensor {name} contains NaN or infinite values"
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
