"""What writes a run's files: comparison.json, predictions.jsonl, history.jsonl and the rest."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lora_tune.artifacts.baseline_writer import KeptBaseline
from lora_tune.artifacts.reload_check import ReloadCheck
from lora_tune.artifacts.training_rows import write_training_rows
from lora_tune.config.redaction import redact
from lora_tune.data.splits import Data
from lora_tune.evaluation.baselines import Baselines
from lora_tune.evaluation.comparison import Comparison, Cost, Example, describe_recommendation
from lora_tune.evaluation.error_analysis import analyze_errors, find_error_cases
from lora_tune.evaluation.generation import Completion
from lora_tune.evaluation.model_evaluation import Evaluation
from lora_tune.evaluation.results import BASE, LORA, Result
from lora_tune.run_context import RunContext
from lora_tune.system.environment import describe_environment
from lora_tune.tasks import Task
from lora_tune.training.overfitting import Overfitting
from lora_tune.training.training import TrainedLora

LENGTH_BINS = 24
SHOWN_TEXT = 400  # characters of a row


@dataclass(frozen=True)
class RunResults:
    """All that a run found."""

    baselines: Baselines
    results: list[Result]  # of every system, LoRA's last
    lora: TrainedLora
    overfitting: Overfitting
    comparison: Comparison
    examples: list[Example]
    cost: Cost
    reload: ReloadCheck
    kept: KeptBaseline | None  # the baseline that was saved


def write_run(folder: Path, context: RunContext, run: RunResults) -> None:
    """Write every file of a run beside the adapter's directory, without secrets."""
    data, task = context.data, context.task
    evaluations = {result.name: result.evaluation for result in run.results}
    comparison = run.comparison.to_json() | asdict(run.cost)
    comparison |= {
        "examples": list(map(asdict, run.examples)),
        "recommendation": describe_recommendation(
            run.comparison, adapter="adapter", baseline="baseline" if run.kept else None
        ),
        "reload": asdict(run.reload),
        "baseline": None if run.kept is None else run.kept.to_json(),
        "modules": list(map(asdict, run.lora.adapter.modules)),
        "overfitting": asdict(run.overfitting),
    }
    if task.has_classes:
        analysis = analyze_errors(evaluations[LORA], data.test.rows.labels, data.labels)
        comparison["error_analysis"] = asdict(analysis)
    if task.output_kind in ("class", "labels", "tags"):
        against = run.comparison.best_baseline
        comparison["error_cases"] = _error_cases(evaluations, against, data)
    _write_text(folder / "recipe.yaml", context.recipe.text)
    _write_json(folder / "comparison.json", comparison)
    _write_json(folder / "data.json", _describe_data(data))
    _write_json(folder / "environment.json", _describe_environment(context, run))
    _write_lines(folder / "history.jsonl", run.lora.history.evaluations)
    _write_lines(folder / "training_loss.jsonl", run.lora.history.steps)
    write_training_rows(folder, data)
    _write_lines(folder / "predictions.jsonl", _describe_predictions(evaluations, data, task))


def _describe_environment(context: RunContext, run: RunResults) -> dict[str, Any]:
    recipe, data, checkpoint = context.recipe, context.data, context.checkpoint
    memory = asdict(run.baselines.weight_memory)
    return describe_environment(run.lora.arguments.device.type) | {
        "seed": recipe.all_seeds[0],
        "model": checkpoint.name,
        "model_revision": checkpoint.revision,
        "base_weights": {"held_in": recipe.model.precision} | memory,
        "data": recipe.source_as_written,
        "data_revision": data.commit,
        "data_fingerprint": data.fingerprint(),
        "test_fingerprint": data.fingerprint(["test"]),
        "best_step": run.lora.history.best_step,
        "autocast": run.lora.autocast,
    }


def _describe_predictions(
    evaluations: Mapping[str, Evaluation], data: Data, task: Task
) -> Iterator[dict[str, Any]]:
    """Every system's prediction for each test row, and what it adds to the primary metric."""
    rows = data.test.rows
    label_texts, ids = list(rows.label_texts), None if rows.ids is None else list(rows.ids)
    for i, given in enumerate(rows.inputs):
        predictions = {
            name: Completion(evaluation.texts[i])
            if evaluation.texts is not None
            else evaluation.task.format(evaluation.outputs[i], given, data.labels)
            for name, evaluation in evaluations.items()
        }
        row: dict[str, Any] = {
            "row": rows.row_numbers[i],
            **({} if ids is None else {"id": ids[i]}),
            "label": label_texts[i],
            "base": predictions[BASE].label,
            "adapted": predictions[LORA].label,
        }
        if task.has_classes:
            for key, name in (("base_probabilities", BASE), ("adapted_probabilities", LORA)):
                row[key] = _by_label(evaluations[name].probabilities[i], data.labels)
        row["predictions"] = {name: prediction.label for name, prediction in predictions.items()}
        row["counts"] = {name: found.counts[i].tolist() for name, found in evaluations.items()}
        yield row


def _describe_data(data: Data) -> dict[str, Any]:
    """Rows by class and token counts of every split, for the report's plots."""
    counts = {name: split.token_counts for name, split in data.splits.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(counts.values())), LENGTH_BINS)
    return {
        "labels": list(data.label_counts["train"]),
        "max_length": data.max_length,
        "token_count_edges": edges.tolist(),
        "splits": {
            name: {
                "rows": len(split.rows.texts),
                "rows_by_label": list(data.label_counts[name].values()),
                "token_counts": np.histogram(counts[name], edges)[0].tolist(),
                "truncated": int((counts[name] > data.max_length).sum()),
            }
            for name, split in data.splits.items()
        },
    }


def _error_cases(evaluations: Mapping[str, Evaluation], against: str, data: Data) -> dict[str, Any]:
    """The rows worth reading, with the beginning of their texts."""
    rows = data.test.rows
    label_texts = list(rows.label_texts)
    cases = find_error_cases(evaluations[LORA], evaluations[against], data.test)

    def predict(system: str, i: int) -> str:
        found = evaluations[system]
        return _shorten(found.task.format(found.outputs[i], rows.inputs[i], data.labels).label)

    def describe(i: int) -> dict[str, Any]:
        return {
            "row": rows.row_numbers[i],
            "id": None if rows.ids is None else rows.ids[i],
            "text": _shorten(rows.texts[i]),
            "label": _shorten(label_texts[i]),
            "adapted": predict(LORA, i),
            "confidence": float(cases.confidence[i]),
            "other": predict(against, i),
        }

    kinds = {"fixed": cases.fixed, "broken": cases.broken, "mistakes": cases.mistakes}
    return {"against": against} | {kind: list(map(describe, i)) for kind, i in kinds.items()}


def _shorten(text: str) -> str:
    text = redact(text)  # before a secret is cut in two
    return text if len(text) <= SHOWN_TEXT else text[: SHOWN_TEXT - 3] + "..."


def _by_label(probabilities: Any, labels: Sequence[str]) -> dict[str, float]:
    return {label: float(p) for label, p in zip(labels, probabilities, strict=True)}


def _write_json(path: Path, content: Any) -> None:
    _write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    _write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _write_text(path: Path, text: str) -> None:
    path.write_text(redact(text), encoding="utf-8")
