"""What an adapter directory holds and what it was made from, written into it once."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lora_tune.base import CONFIG_FILE as BASE_CONFIG_FILE
from lora_tune.base import Base, weights_files
from lora_tune.environment import library_versions
from lora_tune.errors import ArtifactError, first_line
from lora_tune.recipe import ModelConfig
from lora_tune.redaction import redact

if TYPE_CHECKING:
    import torch

MANIFEST_FILE = "manifest.json"
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
LABELS_FILE = "labels.json"  # their names, in the order of their numbers
CARD_FILE = "README.md"  # prose, to be edited here or on the Hub: no part of what is verified
FORMAT = 1
SEAL = "sha256"  # of the manifest's other keys
PLAIN_NAME = re.compile(r"\w[\w.-]*")
UNTOLD = {"transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures"}
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
    quantization: Literal["4bit", "8bit"] | None  # while training, as the keys below
    weights_sha256: dict[str, str]  # by file
    config_sha256: str  # of its configuration, but for what changes no answer
    double_quantization: bool = True  # older manifests do not say this
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # nor this

    def loading(self) -> ModelConfig:
        """Say how to load it as it was while training."""
        return ModelConfig(
            name=self.name,
            revision=self.revision,
            quantization=self.quantization,
            double_quantization=self.double_quantization,
            dtype=self.dtype,
            dropout=None,  # a merged model is trained on as its base would be
        )


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
        path.name: FileRecord(path.stat().st_size, file_sha256(path))
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in (MANIFEST_FILE, CARD_FILE)
    }


def record_base(base: Base, loading: ModelConfig) -> BaseRecord:
    """Hash a base model's weights files and its configuration; keep how it was loaded."""
    hashes = {path.name: file_sha256(path) for path in weights_files(base.folder)}
    config = read_json(base.folder / BASE_CONFIG_FILE)
    told = json.dumps({k: v for k, v in config.items() if k not in UNTOLD}, sort_keys=True)
    config_sha256 = hashlib.sha256(told.encode()).hexdigest()
    return BaseRecord(
        base.name,
        base.revision,
        loading.quantization,
        hashes,
        config_sha256,
        loading.double_quantization,
        loading.dtype,
    )


def seal_adapter(
    folder: Path,
    card: str,
    *,
    task: str,
    labels: Sequence[str],
    base: Base,
    loading: ModelConfig,
    tensors: "Mapping[str, torch.Tensor]",
    recipe_name: str,
    recipe: str,
    data_fingerprint: str,
) -> None:
    """Add card and manifest to an adapter directory that is complete but for them.

    Args:
        loading: how the base was loaded while training.
        tensors: as they were trained, in memory, so that a fault in saving them shows.
        recipe: its YAML, interpolations unresolved.
    """
    manifest = Manifest(
        format=FORMAT,
        task=task,
        labels=list(labels),
        base=record_base(base, loading),
        files=record_files(folder),
        tensors=record_tensors(tensors),
        recipe_name=recipe_name,
        recipe=redact(recipe),
        data_fingerprint=data_fingerprint,
        versions=library_versions(),
    )
    (folder / CARD_FILE).write_text(redact(card), encoding="utf-8")
    (folder / MANIFEST_FILE).write_text(render_manifest(asdict(manifest)), encoding="utf-8")


def render_manifest(content: Mapping[str, Any]) -> str:
    """Write a manifest's content as JSON, closed by a SHA-256 of all the rest."""
    rest = {name: value for name, value in content.items() if name != SEAL}
    digest = hashlib.sha256(json.dumps(rest, ensure_ascii=False).encode()).hexdigest()
    return json.dumps(rest | {SEAL: digest}, indent=2, ensure_ascii=False) + "\n"


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
    content = read_json(path)
    if not isinstance(content, dict) or "format" not in content:
        raise ArtifactError(f"{path}: damaged: it is no manifest")
    if content["format"] != FORMAT:
        raise ArtifactError(
            f"{path}: its format is {content['format']!r}, expected {FORMAT}; it was written "
            "by another version of lora_tune"
        )
    if path.read_text(encoding="utf-8") != render_manifest(content):
        raise ArtifactError(f"{path}: was changed since training: its own SHA-256 does not fit it")
    del content[SEAL]
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
    astray = [
        name
        for name in manifest.files
        if not PLAIN_NAME.fullmatch(name) or Path(name).suffix in PICKLES
    ]
    needed = [n for n in (CONFIG_FILE, WEIGHTS_FILE, LABELS_FILE) if n not in manifest.files]
    if astray or needed:
        raise ArtifactError(
            f"{path}: damaged: it "
            + (f"lists {astray[0]!r}, which has no place in it" if astray else f"lacks {needed[0]}")
        )
    return manifest


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        ArtifactError: it is damaged.
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
