"""A run's directory: written aside, published by one rename, `latest` pointing at the newest."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lora_tune.comparison import Comparison, Cost, Example
from lora_tune.data import Data
from lora_tune.evaluation import Evaluation
from lora_tune.publishing import make_draft, publish, resolve_output
from lora_tune.redaction import redact
from lora_tune.reload import ReloadCheck
from lora_tune.training import History

RUNS = Path("runs")


@dataclass(frozen=True)
class Draft:
    """A run being written: `folder` becomes `final` when it is complete."""

    folder: Path
    final: Path
    latest: Path | None  # the link to move; None where the user named the directory

    @property
    def adapter(self) -> Path:
        """The adapter's directory."""
        return self.folder / "adapter"

    @property
    def checkpoints(self) -> Path:
        """Trainer's own files; no part of the finished run."""
        return self.folder / "checkpoints"


@contextmanager
def drafting(recipe_name: str, output: Path | None) -> Iterator[Draft]:
    """Give a run its place, and publish it when the block ends without an error.

    After an error nothing is published; what was written stays only where a checkpoint makes it
    worth keeping, and a note on the error says where.

    Raises:
        ArtifactError: `output` is there and not empty, or cannot be written.
    """
    final = resolve_output(output) if output is not None else _next_run(recipe_name)
    latest = final.parent / "latest" if output is None else None
    draft = Draft(make_draft(final), final, latest)
    try:
        yield draft
    except BaseException as error:
        if any(draft.checkpoints.glob("checkpoint-*")):
            error.add_note(f"The last checkpoints are in {draft.checkpoints}")
        else:
            shutil.rmtree(draft.folder, ignore_errors=True)
            if output is None and not any(draft.folder.parent.iterdir()):
                draft.folder.parent.rmdir()
        raise
    _publish(draft)


def write_results(
    draft: Draft,
    *,
    recipe_text: str,
    comparison: Comparison,
    cost: Cost,
    reload: ReloadCheck,
    examples: Sequence[Example],
    data: Data,
    base: Evaluation,
    adapted: Evaluation,
    history: History,
    environment: Mapping[str, Any],
) -> None:
    """Write every file of a run beside the adapter's directory, without its secrets."""
    _write_text(draft.folder / "recipe.yaml", recipe_text)
    compared = asdict(comparison) | asdict(cost)
    compared |= {"examples": list(map(asdict, examples)), "reload": asdict(reload)}
    _write_json(draft.folder / "comparison.json", compared)
    _write_json(draft.folder / "environment.json", environment)
    _write_lines(draft.folder / "history.jsonl", history.evaluations)
    rows = data.test.rows
    _write_lines(
        draft.folder / "predictions.jsonl",
        [
            {
                "row": rows.places[i],
                "label": data.labels[rows.labels[i]],
                "base": data.labels[base.predictions[i]],
                "adapted": data.labels[adapted.predictions[i]],
                "base_probabilities": _by_label(base.probabilities[i], data.labels),
                "adapted_probabilities": _by_label(adapted.probabilities[i], data.labels),
            }
            for i in range(len(rows.texts))
        ],
    )


def _next_run(recipe_name: str) -> Path:
    runs = RUNS / recipe_name
    time = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    final, number = runs / time, 2
    while final.exists() or any(runs.glob(f".{final.name}.*")):
        final, number = runs / f"{time}-{number}", number + 1
    return final


def _publish(draft: Draft) -> None:
    shutil.rmtree(draft.checkpoints, ignore_errors=True)
    publish(draft.folder, draft.final)
    if draft.latest is not None:
        link = draft.folder.with_suffix(".link")
        link.symlink_to(draft.final.name)
        os.replace(link, draft.latest)


def _by_label(probabilities: Any, labels: Sequence[str]) -> dict[str, float]:
    return {label: float(p) for label, p in zip(labels, probabilities, strict=True)}


def _write_json(path: Path, content: Any) -> None:
    _write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    _write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _write_text(path: Path, text: str) -> None:
    path.write_text(redact(text), encoding="utf-8")
