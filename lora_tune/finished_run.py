"""A finished run, read back from its directory."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lora_tune.errors import ArtifactError, first_line


@dataclass(frozen=True)
class FinishedRun:
    """The files of a run directory."""

    folder: Path
    name: str  # of its recipe
    recipe: str
    comparison: dict[str, Any]
    data: dict[str, Any]
    environment: dict[str, Any]
    manifest: dict[str, Any]
    evaluations: list[dict[str, float]]
    steps: list[dict[str, float]]
    predictions: list[dict[str, Any]]

    def score(self, rung: str) -> dict[str, Any] | None:
        """What a rung scored; None where the run has no such rung."""
        return next((s for s in self.comparison["rungs"] if s["rung"] == rung), None)

    def counts(self, rung: str) -> np.ndarray:
        """What a rung's answer to each test row adds to the task's measure, (rows, counts).

        Raises:
            ArtifactError: the run does not tell.
        """
        try:
            return np.array([row["counts"][rung] for row in self.predictions])
        except KeyError as error:
            raise ArtifactError(
                f"{self.folder}: lacks {error} of each row; it was written by another version of "
                "lora_tune, or has no such rung"
            ) from None


def read_run(folder: Path) -> FinishedRun:
    """Read a run directory.

    Raises:
        ArtifactError: it is none, or a file of it is missing or damaged.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: no such directory (looked from {Path.cwd()})")
    if not (folder / "comparison.json").is_file():
        raise ArtifactError(f"{folder}: has no comparison.json, so it is no run directory")
    try:
        predictions = _read_lines(folder / "predictions.jsonl")
        rows = _read_json(folder / "comparison.json")["test_rows"]
        if len(predictions) != rows:
            raise ArtifactError(
                f"{folder / 'predictions.jsonl'}: holds {len(predictions)} rows, expected {rows}"
            )
        manifest = _read_json(folder / "adapter" / "manifest.json")
        return FinishedRun(
            folder,
            manifest["recipe_name"],
            (folder / "recipe.yaml").read_text(encoding="utf-8"),
            comparison=_read_json(folder / "comparison.json"),
            data=_read_json(folder / "data.json"),
            environment=_read_json(folder / "environment.json"),
            manifest=manifest,
            evaluations=_read_lines(folder / "history.jsonl"),
            steps=_read_lines(folder / "training_loss.jsonl"),
            predictions=predictions,
        )
    except OSError as error:
        raise ArtifactError(f"{error.filename}: {error.strerror}; the run is not whole") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder}: is damaged: {first_line(error)}") from None


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
