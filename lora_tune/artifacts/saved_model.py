"""A saved adapter or baseline: found in a folder or on the Hub, verified, and its base model."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lora_tune.artifacts.manifest import (
    CARD_FILE,
    MANIFEST_FILE,
    CheckpointRecord,
    Manifest,
    read_manifest,
)
from lora_tune.artifacts.verification import verify_checkpoint, verify_files
from lora_tune.config.data import DataConfig
from lora_tune.config.generation import GenerationConfig
from lora_tune.config.model import ModelConfig
from lora_tune.config.saved_recipe import load_saved_input
from lora_tune.errors import ArtifactError, first_line
from lora_tune.models.checkpoint import Checkpoint, resolve_checkpoint
from lora_tune.models.loading import load_model
from lora_tune.system.environment import find_device
from lora_tune.system.hub import fetch_files
from lora_tune.tasks import Task, make_task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class SavedModel:
    """The directory of an adapter or a baseline, whose files are those that were written."""

    name: str  # as the user named it
    folder: Path
    manifest: Manifest

    @property
    def is_adapter(self) -> bool:
        """Whether it is an adapter, and not a baseline."""
        return self.manifest.kind == "adapter"

    @property
    def base(self) -> CheckpointRecord:
        """The base model of an adapter or a linear probe."""
        assert self.manifest.base is not None
        return self.manifest.base

    @property
    def task(self) -> Task:
        """The task that it was trained for."""
        base = self.manifest.base
        return make_task(
            self.manifest.task,
            threshold=self.manifest.threshold or self._recipe["data"].get("threshold") or 0.5,
            pooling="model" if base is None else base.pooling,
        )

    @property
    def data(self) -> DataConfig:
        """How its training rows became inputs; all other keys have their defaults.

        Raises:
            RecipeError: a value is not available here, such as an environment variable.
        """
        return load_saved_input(
            self.manifest.recipe, task=self.manifest.task, where=f"{self.name}: its recipe"
        )

    @property
    def generation(self) -> GenerationConfig:
        """How it generates texts, where it does."""
        return GenerationConfig(**self._recipe.get("generation", {}))

    @property
    def _recipe(self) -> dict[str, Any]:
        """The recipe as run; keys of later versions are missing."""
        recipe: dict[str, Any] = yaml.safe_load(self.manifest.recipe)
        return recipe


def find_model(source: str | Path) -> SavedModel:
    """Find an adapter or a baseline, as its manifest says, and verify it.

    Args:
        source: a directory, or a Hub ID, `owner/name` or `owner/name@revision`.

    Raises:
        ArtifactError: it does not exist, or differs from what was written after training.
    """
    name = str(source)
    folder = Path(name)
    if name.startswith("~/"):
        folder = folder.expanduser()
    repository, _, revision = name.partition("@")
    owner, _, rest = repository.partition("/")
    is_hub_id = isinstance(source, str) and owner.strip(".~") and rest and "/" not in rest
    if is_hub_id and not folder.exists():
        folder = _fetch(repository, revision)
    return SavedModel(name, folder, verify_files(folder))


def resolve_base(saved: SavedModel, place: str | None = None) -> tuple[Checkpoint, ModelConfig]:
    """Resolve the checkpoint of the base model that an adapter or a linear probe was trained on.

    Args:
        saved: the adapter or the linear probe.
        place: a folder or Hub ID to take it from; None for the one that the manifest names.

    Returns:
        The checkpoint, and the configuration that loads it as it was while training.

    Raises:
        ModelError: it cannot be found.
        ArtifactError: what was found is another model.
    """
    wanted = saved.base
    if place is None and Path(wanted.name).is_absolute() and not Path(wanted.name).is_dir():
        raise ArtifactError(
            f"{saved.name}: the folder of its base model, {wanted.name}, does not exist; name "
            "it with --base DIR"
        )
    config = wanted.model_config()
    if place is not None:
        config = replace(config, name=place, revision=None)
    checkpoint = resolve_checkpoint(config)
    verify_checkpoint(checkpoint, saved.manifest)
    return checkpoint, config


def load_base(
    saved: SavedModel, place: str | None = None, *, in_full: bool = False
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase", bool]:
    """Load the base model of an adapter or a linear probe; seed before, for an untrained head.

    Args:
        saved: the adapter or the linear probe.
        place: a folder or Hub ID to take it from; None for the one that the manifest names.
        in_full: whether to load in full precision what was quantized while training.

    Returns:
        The model, on its device; the saved tokenizer; whether the model's head is untrained.
    """
    checkpoint, config = resolve_base(saved, place)
    if in_full:
        config = config.in_full()
    tokenizer = load_saved_tokenizer(saved.folder)
    loaded = load_model(
        checkpoint,
        config,
        task=saved.task,
        labels=saved.manifest.labels,
        tokenizer=tokenizer,
    )
    if config.quantization is None:  # bitsandbytes places its own
        loaded.model.to(find_device())
    return loaded.model, tokenizer, loaded.has_untrained_head


def load_saved_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Load the tokenizer in an adapter's or a linear probe's directory.

    Raises:
        ArtifactError: it is damaged.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError, KeyError, AttributeError, TypeError) as error:
        raise ArtifactError(f"{folder}: its tokenizer is damaged: {first_line(error)}") from None


def _fetch(repository: str, revision: str) -> Path:
    """Fetch the files of an adapter or a baseline, and no others, from the Hub or its cache."""
    try:
        folder, commit = fetch_files(
            repository,
            kind="adapter",
            revision=revision or None,
            files=[MANIFEST_FILE],
            error=ArtifactError,
        )
        if not (folder / MANIFEST_FILE).is_file():
            raise ArtifactError(
                f"{repository}: has no {MANIFEST_FILE}, so its files cannot be verified; `push` "
                "uploads one"
            )
        files = [*read_manifest(folder).files, MANIFEST_FILE, CARD_FILE]
        folder, _ = fetch_files(
            repository, kind="adapter", revision=commit, files=files, error=ArtifactError
        )
    except ArtifactError as error:
        raise ArtifactError(f"{error} (and there is no folder {repository} here)") from None
    return folder
