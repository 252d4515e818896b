"""Records the files, the base model and the recipe of an adapter or a baseline in its manifest."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from lora_tune.config.model import ModelConfig
from lora_tune.config.redaction import redact
from lora_tune.errors import ArtifactError, first_line
from lora_tune.lora.adapter import CONFIG_FILE, LABELS_FILE, WEIGHTS_FILE
from lora_tune.models.checkpoint import CONFIG_FILE as BASE_CONFIG_FILE
from lora_tune.models.checkpoint import Checkpoint, weights_files
from lora_tune.models.pooling import resolve_pooling
from lora_tune.system.environment import library_versions
from lora_tune.tasks import Pooling

if TYPE_CHECKING:
    import torch

MANIFEST_FILE = "manifest.json"
BASELINE_FILE = "baseline.json"
BASELINE_WEIGHTS_FILE = "baseline.safetensors"
CARD_FILE = "README.md"  # not verified, so that users can edit it here or on the Hub
FORMAT = 1
CHECKSUM_KEY = "sha256"  # the SHA-256 of the manifest's other keys
FILE_NAME = re.compile(r"\w[\w.-]*")
# Keys of a base model's configuration that do not affect its outputs.
IGNORED_KEYS = {"transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures"}
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")

Kind = Literal["adapter", "tfidf", "linear_probe"]  # of what a manifest describes


@dataclass(frozen=True)
class FileRecord:
    """The size and the hash of a file."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class TensorRecord:
    """The shape and the hash of a trained tensor."""

    shape: list[int]
    sha256: str  # of its bytes


@dataclass(frozen=True)
class CheckpointRecord:
    """The base model that was trained on, and how it was loaded for the training."""

    name: str  # a Hub ID, or an absolute path
    revision: str | None  # Hub commit
    quantization: Literal["4bit", "8bit"] | None
    weights_sha256: dict[str, str]  # by file
    config_sha256: str  # of the keys of its configuration that affect its outputs
    # Older manifests lack these:
    double_quantization: bool = True
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    pooling: Pooling = "model"

    def model_config(self) -> ModelConfig:
        """Make the configuration that loads the base model as in training."""
        return ModelConfig(
            name=self.name,
            revision=self.revision,
            quantization=self.quantization,
            double_quantization=self.double_quantization,
            dtype=self.dtype,
            pooling=self.pooling,
            dropout=None,  # keeps that of the base model, for training a merged model further
        )


@dataclass(frozen=True)
class TrainingRecord:
    """What an adapter or a baseline was trained from."""

    task: str
    labels: list[str]  # in the order of their IDs
    checkpoint: Checkpoint
    model_config: ModelConfig  # as the base model was loaded
    recipe_name: str
    recipe: str  # its YAML, interpolations unresolved
    data_fingerprint: str  # of texts and labels of all splits
    threshold: float | None  # of a label's probability, where rows have several labels


@dataclass(frozen=True)
class Manifest:
    """Everything on which the outputs depend, and what the model was trained from."""

    format: int
    task: str
    labels: list[str]  # in the order of their IDs
    base: CheckpointRecord | None  # None for TF-IDF, which needs no base model
    files: dict[str, FileRecord]  # all but the manifest and the model card
    tensors: dict[str, TensorRecord]  # of the weights file
    recipe_name: str
    recipe: str  # YAML as run, interpolations unresolved
    data_fingerprint: str  # of texts and labels of all splits
    versions: dict[str, str]  # of the libraries in training
    threshold: float | None = None  # as in the training record; older manifests lack it
    kind: Kind = "adapter"  # older manifests, all of adapters, lack it

    @property
    def noun(self) -> str:
        """What messages call it."""
        return "adapter" if self.kind == "adapter" else "baseline"

    @property
    def weights_file(self) -> str:
        """The name of the file with its tensors."""
        return WEIGHTS_FILE if self.kind == "adapter" else BASELINE_WEIGHTS_FILE


def record_tensors(tensors: "Mapping[str, torch.Tensor]") -> dict[str, TensorRecord]:
    """Hash tensors by name; they may be on any device."""
    return {
        name: TensorRecord(list(tensor.shape), hashlib.sha256(_raw_bytes(tensor)).hexdigest())
        for name, tensor in sorted(tensors.items())
    }


def record_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, TensorRecord]:
    """Hash arrays by name, as `record_tensors` does."""
    return {
        name: TensorRecord(list(array.shape), hashlib.sha256(array.tobytes()).hexdigest())
        for name, array in sorted(arrays.items())
    }


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Hash every file of a directory but its manifest and its model card."""
    return {
        path.name: FileRecord(path.stat().st_size, file_sha256(path))
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in (MANIFEST_FILE, CARD_FILE)
    }


def record_checkpoint(checkpoint: Checkpoint, model_config: ModelConfig) -> CheckpointRecord:
    """Hash a base model's weights files and its configuration, and record how it was loaded."""
    hashes = {path.name: file_sha256(path) for path in weights_files(checkpoint.folder)}
    config = read_json(checkpoint.folder / BASE_CONFIG_FILE)
    hashed = json.dumps({k: v for k, v in config.items() if k not in IGNORED_KEYS}, sort_keys=True)
    config_sha256 = hashlib.sha256(hashed.encode()).hexdigest()
    return CheckpointRecord(
        checkpoint.name,
        checkpoint.revision,
        model_config.quantization,
        hashes,
        config_sha256,
        model_config.double_quantization,
        model_config.dtype,
        resolve_pooling(checkpoint, model_config),
    )


def write_manifest(
    folder: Path,
    *,
    training: TrainingRecord,
    tensors: Mapping[str, TensorRecord],
    kind: Kind = "adapter",
) -> None:
    """Write the manifest of a directory whose other files are complete.

    Args:
        training: what the adapter or the baseline was trained from.
        tensors: records of the trained tensors in memory, so that verification finds errors in
            saving them.
        kind: of what the directory holds.
    """
    needs_base = kind != "tfidf"
    manifest = Manifest(
        format=FORMAT,
        task=training.task,
        labels=training.labels,
        base=record_checkpoint(training.checkpoint, training.model_config) if needs_base else None,
        files=record_files(folder),
        tensors=dict(tensors),
        recipe_name=training.recipe_name,
        recipe=redact(training.recipe),
        data_fingerprint=training.data_fingerprint,
        threshold=training.threshold,
        versions=library_versions(),
        kind=kind,
    )
    (folder / MANIFEST_FILE).write_text(render_manifest(asdict(manifest)), encoding="utf-8")


def render_manifest(content: Mapping[str, Any]) -> str:
    """Format a manifest as JSON, with the SHA-256 of its content at the end."""
    rest = {name: value for name, value in content.items() if name != CHECKSUM_KEY}
    digest = hashlib.sha256(json.dumps(rest, ensure_ascii=False).encode()).hexdigest()
    return json.dumps(rest | {CHECKSUM_KEY: digest}, indent=2, ensure_ascii=False) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Read a manifest without checking the files that it lists.

    Raises:
        ArtifactError: it does not exist, is damaged, was changed, or has another format.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise ArtifactError(
            f"{folder}: has no {MANIFEST_FILE}, so its files cannot be verified; expected a "
            "directory that `train` wrote"
        )
    content = read_json(path)
    if not isinstance(content, dict) or "format" not in content:
        raise ArtifactError(f"{path}: damaged: not a manifest of lora_tune")
    if content["format"] != FORMAT:
        raise ArtifactError(
            f"{path}: found format {content['format']!r}, expected {FORMAT}; it was written by "
            "another version of lora_tune"
        )
    if path.read_text(encoding="utf-8") != render_manifest(content):
        raise ArtifactError(
            f"{path}: was changed since training: its content does not match its SHA-256"
        )
    del content[CHECKSUM_KEY]
    try:
        manifest = Manifest(
            **content
            | {
                "base": CheckpointRecord(**content["base"]) if content["base"] else None,
                "files": {name: FileRecord(**entry) for name, entry in content["files"].items()},
                "tensors": {n: TensorRecord(**entry) for n, entry in content["tensors"].items()},
            }
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path}: damaged: {first_line(error)}") from None
    if manifest.kind not in get_args(Kind):
        raise ArtifactError(
            f"{path}: found the kind {manifest.kind!r}, expected {', '.join(get_args(Kind))}; it "
            "was written by another version of lora_tune"
        )
    if manifest.base is None and manifest.kind != "tfidf":
        raise ArtifactError(f"{path}: damaged: it does not name the base model")
    unexpected = [
        name
        for name in manifest.files
        if not FILE_NAME.fullmatch(name) or Path(name).suffix in PICKLES
    ]
    own_files: tuple[str, ...] = (CONFIG_FILE, WEIGHTS_FILE, LABELS_FILE)
    if manifest.kind != "adapter":
        own_files = (BASELINE_FILE, BASELINE_WEIGHTS_FILE)
    missing = [name for name in own_files if name not in manifest.files]
    if unexpected:
        raise ArtifactError(
            f"{path}: damaged: it lists {unexpected[0]!r}, which is not a file of an adapter "
            "or a baseline"
        )
    if missing:
        raise ArtifactError(f"{path}: damaged: it does not list {missing[0]}")
    return manifest


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ArtifactError: it is not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{path}: damaged: {first_line(error)}") from None


def _raw_bytes(tensor: "torch.Tensor") -> bytes:
    import torch

    plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return plain.numpy().tobytes()


def file_sha256(path: Path) -> str:
    """Hash a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
