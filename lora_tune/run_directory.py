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

from lora_tune.comparison import Comparison
from lora_tune.data import Data
from lora_tune.errors import ArtifactError
from lora_tune.evaluation import Evaluation
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
    draft = _plan(recipe_name, output)
    try:
        if draft.folder.exists():  # an earlier run was killed
            shutil.rmtree(draft.folder)
        draft.folder.mkdir(parents=True)
    except OSError as error:
        raise ArtifactError(f"{draft.final}: cannot be written: {error.strerror}") from None
    try:
        yield draft
    except BaseException as error:
        if any(draft.checkpoints.glob("checkpoint-*")):
            error.add_note(f"The last checkpoints are in {draft.checkpoints}")
        else:
            shutil.rmtree(draft.folder, ignore_errors=True)
        raise
    _publish(draft)


def write_results(
    draft: Draft,
    *,
    recipe_text: str,
    card: str,
    comparison: Comparison,
    data: Data,
    base: Evaluation,
    adapted: Evaluation,
    history: History,
    environment: Mapping[str, Any],
) -> None:
    """Write every file of a run beside the adapter's own, which are there already."""
    (draft.adapter / "README.md").write_text(card, encoding="utf-8")
    (draft.folder / "recipe.yaml").write_text(recipe_text, encoding="utf-8")
    _write_json(draft.folder / "comparison.json", asdict(comparison))
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


def _plan(recipe_name: str, output: Path | None) -> Draft:
    if output is not None:
        if output.is_file() or (output.is_dir() and any(output.iterdir())):
            raise ArtifactError(f"--output {output}: is not empty; name a new or empty directory")
        return Draft(output.with_name(f".{output.name}.incomplete"), output, None)
    runs = RUNS / recipe_name
    time = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    final, number = runs / time, 2
    while final.exists():
        final, number = runs / f"{time}-{number}", number + 1
    return Draft(runs / f".{final.name}.incomplete", final, runs / "latest")


def _publish(draft: Draft) -> None:
    shutil.rmtree(draft.checkpoints, ignore_errors=True)
    os.replace(draft.folder, draft.final)  # an empty directory there is replaced
    if draft.latest is not None:
        link = draft.latest.with_name(".latest.new")
        link.unlink(missing_ok=True)
        link.symlink_to(draft.final.name)
        os.replace(link, draft.latest)


def _by_label(probabilities: Any, labels: Sequence[str]) -> dict[str, float]:
    return {label: float(p) for label, p in zip(labels, probabilities, strict=True)}


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")
