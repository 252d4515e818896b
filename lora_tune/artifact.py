"""A saved adapter, found in a folder or on the Hub, and verified against its manifest."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from lora_tune.base import Base, find_base
from lora_tune.errors import ArtifactError
from lora_tune.hub import fetch_files
from lora_tune.manifest import (
    CARD_FILE,
    MANIFEST_FILE,
    Manifest,
    read_manifest,
)
from lora_tune.past_recipe import recall_input
from lora_tune.recipe import DataConfig, GenerationConfig, ModelConfig
from lora_tune.tasks import Task, find_task
from lora_tune.verification import verify_adapter, verify_base


@dataclass(frozen=True)
class Artifact:
    """An adapter directory whose files are those that were written."""

    name: str  # as it was asked for
    folder: Path
    manifest: Manifest

    @property
    def task(self) -> Task:
        """What it was trained for."""
        return find_task(self.manifest.task, threshold=self._recipe["data"].get("threshold"))

    @property
    def data(self) -> DataConfig:
        """How the rows that it was trained on became inputs; all else at its defaults.

        Raises:
            RecipeError: a value of it cannot be had here, such as an environment variable.
        """
        return recall_input(
            self.manifest.recipe, task=self.manifest.task, where=f"{self.name}: its recipe"
        )

    @property
    def generation(self) -> GenerationConfig:
        """How it writes, where it does."""
        return GenerationConfig(**self._recipe.get("generation", {}))

    @property
    def _recipe(self) -> dict[str, Any]:
        """As it was run; keys of later versions are not in it."""
        recipe: dict[str, Any] = yaml.safe_load(self.manifest.recipe)
        return recipe


def find_adapter(source: str | Path) -> Artifact:
    """Find an adapter and verify it.

    Args:
        source: a directory, or a Hub id, `owner/name` or `owner/name@revision`.

    Raises:
        ArtifactError: it is not there, or not as it was when it was trained.
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
    return Artifact(name, folder, verify_adapter(folder))


def find_adapter_base(artifact: Artifact, place: str | None = None) -> tuple[Base, ModelConfig]:
    """Find the base that an adapter was trained on.

    Args:
        place: a folder or Hub id to take it from; None for the one that the adapter names.

    Returns:
        The base, and the configuration that loads it as it was while training.

    Raises:
        ModelError: it cannot be found.
        ArtifactError: what was found is another model.
    """
    wanted = artifact.manifest.base
    if place is None and Path(wanted.name).is_absolute() and not Path(wanted.name).is_dir():
        raise ArtifactError(
            f"{artifact.name}: its base, the folder {wanted.name}, is not there; say where it is "
            "with --base DIR"
        )
    config = wanted.loading()
    if place is not None:
        config = replace(config, name=place, revision=None)
    base = find_base(config)
    verify_base(base, artifact.manifest)
    return base, config


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
                f"{repository}: has no {MANIFEST_FILE}, so nothing tells whether it is whole; "
                "`push` sends one"
            )
        files = [*read_manifest(folder).files, MANIFEST_FILE, CARD_FILE]
        folder, _ = fetch_files(
            repository, kind="adapter", revision=commit, files=files, error=ArtifactError
        )
    except ArtifactError as error:
        raise ArtifactError(f"{error} (nor is there a folder {repository} here)") from None
    return folder
