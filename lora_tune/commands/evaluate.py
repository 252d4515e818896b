"""`evaluate`: compares a saved adapter with its base model again, or a baseline with a constant."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from lora_tune.artifacts.saved_adapter import load_predictor
from lora_tune.artifacts.saved_baseline import read_baseline_files
from lora_tune.artifacts.saved_model import SavedModel, find_model, load_base
from lora_tune.commands.evaluation_rows import EvaluationRows, load_evaluation_rows
from lora_tune.commands.output import show
from lora_tune.commands.process_setup import prepare_process
from lora_tune.commands.shared_arguments import Verbs, add_adapter, add_base, add_data, add_verb
from lora_tune.config.redaction import redact
from lora_tune.data.batching import make_collator
from lora_tune.errors import DataError
from lora_tune.evaluation.comparison import Comparison, compare
from lora_tune.evaluation.error_analysis import summarize_errors
from lora_tune.evaluation.generation import evaluate_test, make_generator
from lora_tune.evaluation.linear_baselines import evaluate_constant
from lora_tune.evaluation.model_evaluation import evaluate_outputs
from lora_tune.evaluation.results import BASE, LORA, Result
from lora_tune.lora.adapter import load_adapter_weights
from lora_tune.metrics.text import check_text_metrics
from lora_tune.report.tables import comparison_table
from lora_tune.system.environment import seed_everything
from lora_tune.tasks import primary_metric_of


def add_parser(verbs: Verbs) -> argparse.ArgumentParser:
    """Add `evaluate` to the command line."""
    parser = add_verb(verbs, "evaluate", "compare a saved adapter with its base model again")
    add_adapter(parser)
    add_base(parser)
    add_data(parser)
    parser.add_argument(
        "--output", metavar="FILE", type=Path, help="a file for the comparison, as JSON"
    )
    return parser


def run(options: argparse.Namespace) -> None:
    """Compare, print the comparison, and write it where asked."""
    prepare_process()
    comparison = evaluate_adapter(options.adapter, data=options.data, base=options.base, show=show)
    show(comparison_table(comparison))
    if options.output:
        write_comparison(options.output, comparison)


def evaluate_adapter(
    source: str | Path,
    *,
    data: Path | None = None,
    base: str | None = None,
    show: Callable[[str], None],
) -> Comparison:
    """Compare a saved adapter with its base model; an untrained head is drawn with the run's seed.

    A baseline is compared with the constant prediction that is the best for its training rows.

    Args:
        source: the directory of an adapter or a baseline, or a Hub ID.
        data: a file of labeled rows with the recipe's columns; None for the run's test rows.
        base: a folder or Hub ID of the base model; None for the one that the adapter names.
        show: takes a line about the rows.

    Raises:
        LoraTuneError: the adapter, its base model or the rows are missing or wrong.
    """
    saved = find_model(source)
    rows = load_evaluation_rows(saved, data)
    show(f"{len(rows.split.rows.texts)} rows: {data or rows.recipe.source_as_written}")
    if saved.is_adapter:
        return _compare_adapter(saved, rows, base)
    return _compare_baseline(saved, rows, base)


def _compare_adapter(saved: SavedModel, rows: EvaluationRows, base: str | None) -> Comparison:
    task, recipe, split = saved.task, rows.recipe, rows.split
    undefined = check_text_metrics(recipe.generation.metric, split)
    seed_everything(recipe.all_seeds[0])
    model, tokenizer, untrained_head = load_base(saved, base)
    collate = make_collator(tokenizer, task, model)
    generator = make_generator(task, tokenizer, recipe.generation)
    before = evaluate_test(
        model, split, task, collate=collate, generator=generator, title="base model"
    )
    adapted = load_adapter_weights(model, saved.folder)
    after = evaluate_test(adapted, split, task, collate=collate, generator=generator, title="LoRA")
    return compare(
        [Result(BASE, before, None, None), Result(LORA, after, None, None)],
        metric=primary_metric_of(task, recipe.generation),
        untrained_head=untrained_head,
        groups=task.metrics_by_group(after.outputs, split),
        error_summary=summarize_errors(after, split),
        warnings=[*rows.warnings, *undefined],
    )


def _compare_baseline(saved: SavedModel, rows: EvaluationRows, base: str | None) -> Comparison:
    task, split = saved.task, rows.split
    constant = read_baseline_files(saved.folder).constant
    predictor = load_predictor(saved, base)
    outputs = predictor.compute_outputs(split.rows.inputs, title=saved.manifest.kind)
    return compare(
        [
            Result(constant.name, evaluate_constant(constant, split, task), None, None),
            Result(saved.manifest.kind, evaluate_outputs(outputs, split, task), None, None),
        ],
        metric=task.primary_metric,
        untrained_head=False,
        groups=task.metrics_by_group(outputs, split),
        warnings=rows.warnings,
    )


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write a comparison as JSON, without secrets.

    Raises:
        DataError: the file cannot be written.
    """
    text = json.dumps(comparison.to_json(), indent=2, ensure_ascii=False) + "\n"
    try:
        path.write_text(redact(text), encoding="utf-8")
    except OSError as error:
        raise DataError(f"--output {path}: cannot be written: {error.strerror}") from None
