"""A run's directory: written aside, published by one rename, `latest` pointing at the newest."""

import json
import os
import shutil
import tempfile
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
    final = _resolve_output(output) if output is not None else _next_run(recipe_name)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: what another run is writing, or has kept, is left alone.
        folder = tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".incomplete", dir=final.parent)
    except OSError as error:
        raise ArtifactError(f"{final}: cannot be written: {error.strerror}") from None
    os.chmod(folder, 0o755)
    draft = Draft(Path(folder), final, final.parent / "latest" if output is None else None)
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


def _resolve_output(output: Path) -> Path:
    path = output.expanduser().resolve()
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise ArtifactError(f"--output {output}: is not empty; name a new or empty directory")
    if path == Path.cwd() or path.is_mount():
        raise ArtifactError(f"--output {output}: cannot be replaced; name a directory inside it")
    return path


def _next_run(recipe_name: str) -> Path:
    runs = RUNS / recipe_name
    time = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    final, number = runs / time, 2
    while final.exists() or any(runs.glob(f".{final.name}.*")):
        final, number = runs / f"{time}-{number}", number + 1
    return final


def _publish(draft: Draft) -> None:
    shutil.rmtree(draft.checkpoints, ignore_errors=True)
    try:
        os.replace(draft.folder, draft.final)  # an empty directory there is replaced
    except OSError as error:
        raise ArtifactError(
            f"{draft.final}: the run is complete, but cannot be moved there ({error.strerror}); it "
            f"is in {draft.folder}"
        ) from None
    if draft.latest is not None:
        link = draft.folder.with_suffix(".link")
        link.symlink_to(draft.final.name)
        os.replace(link, draft.latest)


def _by_label(probabilities: Any, labels: Sequence[str]) -> dict[str, float]:
    return {label: float(p) for label, p in zip(labels, probabilities, strict=True)}


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")
