"""A saved adapter: found in a folder or on the Hub, verified, and loaded for inference."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lora_tune.artifacts.manifest import CARD_FILE, MANIFEST_FILE, Manifest, read_manifest
from lora_tune.artifacts.verification import verify_adapter, verify_checkpoint
from lora_tune.config.data import DataConfig
from lora_tune.config.generation import GenerationConfig
from lora_tune.config.model import ModelConfig
from lora_tune.config.saved_recipe import load_saved_input
from lora_tune.data.preprocessing import Preprocessor
from lora_tune.errors import ArtifactError, first_line
from lora_tune.evaluation.predictor import Predictor
from lora_tune.lora.adapter import load_adapter_weights
from lora_tune.models.checkpoint import Checkpoint, resolve_checkpoint
from lora_tune.models.loading import load_model
from lora_tune.system.environment import find_device
from lora_tune.system.hub import fetch_files
from lora_tune.tasks import Task, make_task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class SavedAdapter:
    """An adapter directory whose files are those that were written."""

    name: str  # as the user named it
    folder: Path
    manifest: Manifest

    @property
    def task(self) -> Task:
        """The task that it was trained for."""
        return make_task(
            self.manifest.task,
            threshold=self.manifest.threshold or self._recipe["data"].get("threshold") or 0.5,
            pooling=self.manifest.base.pooling,
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


def find_adapter(source: str | Path) -> SavedAdapter:
    """Find an adapter and verify it.

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
    return SavedAdapter(name, folder, verify_adapter(folder))


def resolve_adapter_checkpoint(
    adapter: SavedAdapter, place: str | None = None
) -> tuple[Checkpoint, ModelConfig]:
    """Resolve the checkpoint of the base model that an adapter was trained on.

    Args:
        place: a folder or Hub ID to take it from; None for the one that the adapter names.

    Returns:
        The checkpoint, and the configuration that loads it as it was while training.

    Raises:
        ModelError: it cannot be found.
        ArtifactError: what was found is another model.
    """
    wanted = adapter.manifest.base
    if place is None and Path(wanted.name).is_absolute() and not Path(wanted.name).is_dir():
        raise ArtifactError(
            f"{adapter.name}: the folder of its base model, {wanted.name}, does not exist; name "
            "it with --base DIR"
        )
    config = wanted.model_config()
    if place is not None:
        config = replace(config, name=place, revision=None)
    checkpoint = resolve_checkpoint(config)
    verify_checkpoint(checkpoint, adapter.manifest)
    return checkpoint, config


def load_adapter(source: str | Path, *, base: str | None = None) -> Predictor:
    """Load a verified adapter and its base model, for inference.

    Args:
        source: an adapter directory, or a Hub ID, `owner/name` or `owner/name@revision`.
        base: where its base model is; None for the place that the adapter names.

    Raises:
        ArtifactError: the adapter is damaged or incomplete, or the base model is another one.
        ModelError: its base model cannot be found.
    """
    return load_predictor(find_adapter(source), base)


def load_predictor(adapter: SavedAdapter, base: str | None = None) -> Predictor:
    """Load an adapter that has been verified; see `load_adapter`."""
    model, tokenizer, _ = load_adapter_base(adapter, base)
    adapted = load_adapter_weights(model, adapter.folder)
    return Predictor(
        adapted,
        tokenizer,
        adapter.task,
        adapter.manifest.labels,
        adapter.generation,
        adapter.data,
    )


def load_preprocessor(adapter: SavedAdapter) -> Preprocessor:
    """Load what turns rows into an adapter's inputs, without its model."""
    return Preprocessor(adapter.task, adapter.data, load_adapter_tokenizer(adapter.folder))


def load_adapter_base(
    adapter: SavedAdapter, base: str | None = None, *, in_full: bool = False
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase", bool]:
    """Load the base model of an adapter; seed before, for an untrained head.

    Args:
        in_full: whether to load in full precision what was quantized while training.

    Returns:
        The model, on its device; the adapter's tokenizer; whether the model's head is untrained.
    """
    checkpoint, config = resolve_adapter_checkpoint(adapter, base)
    if in_full:
        config = config.in_full()
    tokenizer = load_adapter_tokenizer(adapter.folder)
    loaded = load_model(
        checkpoint,
        config,
        task=adapter.task,
        labels=adapter.manifest.labels,
        tokenizer=tokenizer,
    )
    if config.quantization is None:  # bitsandbytes places its own
        loaded.model.to(find_device())
    return loaded.model, tokenizer, loaded.has_untrained_head


def load_adapter_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Load the tokenizer in an adapter directory.

    Raises:
        ArtifactError: it is damaged.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError, KeyError, AttributeError, TypeError) as error:
        raise ArtifactError(f"{folder}: its tokenizer is damaged: {first_line(error)}") from None


def _fetch(repository: str, revision: str) -> Path:
    """Fetch an adapter's files, and no others, from the Hub or its cache."""
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
