"""A finished run, read back from its directory; runs of 0.1.0 are translated to today's names."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lora_tune.errors import ArtifactError, first_line
from lora_tune.evaluation.results import LINEAR_PROBE, TAGS, TFIDF

# What 0.1.0 called the systems and the keys of comparison.json.
SYSTEMS_0_1_0 = {"words": TFIDF, "head": LINEAR_PROBE}
KEYS_0_1_0 = {
    "rungs": "results",
    "pairs": "comparisons",
    "parts": "groups",
    "caveats": "warnings",
    "fresh_head": "untrained_head",
    "best_cheap": "best_baseline",
    "diagnosis": "error_analysis",
    "cases": "error_cases",
    "smallest_difference": "minimum_detectable_difference",
}


@dataclass(frozen=True)
class SavedRun:
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

    def score(self, system: str) -> dict[str, Any] | None:
        """The result of a system; None where the run has no such system."""
        return next((s for s in self.comparison["results"] if s["name"] == system), None)

    def counts(self, system: str) -> np.ndarray:
        """What a system's outputs for each test row add to the primary metric, (rows, counts).

        Raises:
            ArtifactError: the run does not have them.
        """
        try:
            return np.array([row["counts"][system] for row in self.predictions])
        except KeyError as error:
            raise ArtifactError(
                f"{self.folder}: lacks {error} for each row; it was written by another version of "
                "lora_tune, or has no such system"
            ) from None


def read_run(folder: Path) -> SavedRun:
    """Read a run directory.

    Raises:
        ArtifactError: it is not a run directory, or a file of it is missing or damaged.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: no such directory (looked from {Path.cwd()})")
    if not (folder / "comparison.json").is_file():
        raise ArtifactError(f"{folder}: has no comparison.json, so it is not a run directory")
    try:
        comparison = _translate_comparison(_read_json(folder / "comparison.json"))
        predictions = _read_lines(folder / "predictions.jsonl")
        if len(predictions) != comparison["test_rows"]:
            raise ArtifactError(
                f"{folder / 'predictions.jsonl'}: has {len(predictions)} rows, expected "
                f"{comparison['test_rows']}"
            )
        manifest = _read_json(folder / "adapter" / "manifest.json")
        return SavedRun(
            folder,
            manifest["recipe_name"],
            (folder / "recipe.yaml").read_text(encoding="utf-8"),
            comparison=comparison,
            data=_read_json(folder / "data.json"),
            environment=_read_json(folder / "environment.json"),
            manifest=manifest,
            evaluations=_read_lines(folder / "history.jsonl"),
            steps=_read_lines(folder / "training_loss.jsonl"),
            predictions=[_translate_prediction(row, comparison["task"]) for row in predictions],
        )
    except OSError as error:
        raise ArtifactError(f"{error.filename}: {error.strerror}; the run is incomplete") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder}: is damaged: {first_line(error)}") from None


def _translate_comparison(content: dict[str, Any]) -> dict[str, Any]:
    """Translate the names of 0.1.0; what has today's names stays as it is."""
    content = {KEYS_0_1_0.get(key, key): value for key, value in content.items()}
    task = content["task"]
    for key in ("results", "comparisons"):
        content[key] = [
            {KEYS_0_1_0.get(k, k): v for k, v in entry.items() if k not in ("rung", "name")}
            | {"name": _system(entry.get("name", entry.get("rung")), task)}
            for entry in content[key]
        ]
    content["best_baseline"] = _system(content["best_baseline"], task)
    content.setdefault("recommendation", "")  # 0.1.0 had none
    if "error_cases" in content:
        against = _system(content["error_cases"]["against"], task)
        content["error_cases"] = content["error_cases"] | {"against": against}
    return content


def _translate_prediction(row: dict[str, Any], task: str) -> dict[str, Any]:
    row = {("predictions" if key == "rungs" else key): value for key, value in row.items()}
    for key in ("predictions", "counts"):
        if key in row:
            row[key] = {_system(name, task): value for name, value in row[key].items()}
    return row


def _system(name: Any, task: str) -> Any:
    if name == "words" and task == "token_classification":
        return TAGS
    return SYSTEMS_0_1_0.get(name, name)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
