"""A run's directory: written aside, published by one rename, `latest` pointing at the newest."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from lora_tune.adapter import AdaptedModules
from lora_tune.comparison import BASE, LORA, Comparison, Cost, Example, comparison_json
from lora_tune.data import Data
from lora_tune.diagnosis import diagnose, find_cases
from lora_tune.evaluation import Evaluation
from lora_tune.history import History
from lora_tune.ladder import Rung
from lora_tune.overfitting import Overfitting
from lora_tune.publishing import make_draft, publish, resolve_output
from lora_tune.redaction import redact
from lora_tune.reload import ReloadCheck
from lora_tune.tasks import Task
from lora_tune.tasks.writing_task import Completion

RUNS = Path("runs")
LENGTH_BINS = 24
SHOWN_TEXT = 400  # characters of a row


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
        if any(draft.checkpoints.glob("**/checkpoint-*")):
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
    rungs: Sequence[Rung],
    task: Task,
    overfitting: Overfitting,
    modules: Sequence[AdaptedModules],
    cost: Cost,
    reload: ReloadCheck,
    examples: Sequence[Example],
    data: Data,
    history: History,
    environment: Mapping[str, Any],
) -> None:
    """Write every file of a run beside the adapter's directory, without its secrets."""
    _write_text(draft.folder / "recipe.yaml", recipe_text)
    answers = {rung.name: rung.evaluation for rung in rungs}
    compared = comparison_json(comparison) | asdict(cost)
    compared |= {"examples": list(map(asdict, examples)), "reload": asdict(reload)}
    compared |= {"modules": list(map(asdict, modules)), "overfitting": asdict(overfitting)}
    if task.has_classes:
        found = diagnose(answers[LORA], data.test.rows.labels, data.labels)
        compared["diagnosis"] = asdict(found)
        compared["cases"] = _describe_cases(answers, comparison.best_cheap, data)
    _write_json(draft.folder / "comparison.json", compared)
    _write_json(draft.folder / "data.json", _describe_data(data))
    _write_lines(draft.folder / "training_loss.jsonl", history.steps)
    _write_json(draft.folder / "environment.json", environment)
    _write_lines(draft.folder / "history.jsonl", history.evaluations)
    _write_lines(draft.folder / "predictions.jsonl", _describe_predictions(answers, data, task))


def _describe_predictions(
    answers: Mapping[str, Evaluation], data: Data, task: Task
) -> Iterator[dict[str, Any]]:
    """What every rung says of each test row, and what that adds to the task's measure."""
    rows = data.test.rows
    for i, given in enumerate(rows.inputs):
        told = {
            name: Completion(answer.texts[i])
            if answer.texts is not None
            else task.tell(answer.answers[i], given, data.labels)
            for name, answer in answers.items()
        }
        yield (
            {
                "row": rows.places[i],
                "label": rows.label_texts[i],
                "base": told[BASE].label,
                "adapted": told[LORA].label,
            }
            | (
                {
                    "base_probabilities": _by_label(answers[BASE].probabilities[i], data.labels),
                    "adapted_probabilities": _by_label(answers[LORA].probabilities[i], data.labels),
                }
                if task.has_classes
                else {}
            )
            | {
                "rungs": {name: answer.label for name, answer in told.items()},
                "counts": {name: answer.counts[i].tolist() for name, answer in answers.items()},
            }
        )


def _describe_data(data: Data) -> dict[str, Any]:
    """Rows by class and token counts of every split, for the report's pictures."""
    counts = {name: split.token_counts for name, split in data.splits.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(counts.values())), LENGTH_BINS)
    return {
        "labels": list(data.tallies["train"]),
        "max_length": data.max_length,
        "token_count_edges": edges.tolist(),
        "splits": {
            name: {
                "rows": len(split.rows.texts),
                "rows_by_label": list(data.tallies[name].values()),
                "token_counts": np.histogram(counts[name], edges)[0].tolist(),
                "truncated": int((counts[name] > data.max_length).sum()),
            }
            for name, split in data.splits.items()
        },
    }


def _describe_cases(answers: Mapping[str, Evaluation], against: str, data: Data) -> dict[str, Any]:
    """The rows worth reading, with the beginning of their texts."""
    rows = data.test.rows
    cases = find_cases(answers[LORA], answers[against], rows.labels, against=against)

    def describe(i: int) -> dict[str, Any]:
        text = redact(rows.texts[i])  # before a secret is cut in two
        return {
            "row": rows.places[i],
            "text": text if len(text) <= SHOWN_TEXT else text[: SHOWN_TEXT - 3] + "...",
            "label": data.labels[rows.labels[i]],
            "adapted": data.labels[answers[LORA].predictions[i]],
            "confidence": float(answers[LORA].probabilities[i].max()),
            "other": data.labels[answers[against].predictions[i]],
        }

    kinds = {"fixed": cases.fixed, "broken": cases.broken, "mistakes": cases.mistakes}
    return {"against": against} | {kind: list(map(describe, i)) for kind, i in kinds.items()}


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


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    _write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _write_text(path: Path, text: str) -> None:
    path.write_text(redact(text), encoding="utf-8")
