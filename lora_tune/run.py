"""The steps of a run: recipe, data, baselines, trainings, comparison, adapter, run directory."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lora_tune.artifacts.adapter_writer import save_adapter
from lora_tune.artifacts.baseline_writer import save_best_baseline
from lora_tune.artifacts.reload_check import check_reload, record_outputs
from lora_tune.artifacts.run_directory import create_run_directory
from lora_tune.artifacts.run_writer import RunResults, write_run
from lora_tune.config.recipe import Recipe
from lora_tune.evaluation.baselines import evaluate_baselines
from lora_tune.evaluation.comparison import compare, compare_examples
from lora_tune.evaluation.custom_metrics import add_metrics
from lora_tune.evaluation.error_analysis import summarize_errors
from lora_tune.evaluation.results import Keep
from lora_tune.report.page import REPORT_FILE, write_report
from lora_tune.report.tables import data_table, render, run_tables, weights_line
from lora_tune.system.environment import free_memory
from lora_tune.training.overfitting import ConstantComparison, check_overfitting
from lora_tune.training.preparation import prepare
from lora_tune.training.training import train_costly_baselines, train_lora


def run_recipe(
    recipe: Recipe,
    *,
    output: Path | None = None,
    show: Callable[[str], None],
    metrics: Sequence[Any] = (),
    keep: Keep = "best",
) -> Path:
    """Train a recipe's adapter and compare it with everything cheaper on the same test rows.

    Args:
        output: the run directory; None for `runs/<recipe>/<UTC time>`.
        show: takes each table or line, as text, when it is known.
        metrics: modules of evaluate, computed for every system; see `add_metrics`.
        keep: `best` to save a baseline that the adapter does not beat as well, or `lora`.

    Returns:
        The run directory.

    Raises:
        LoraTuneError: the recipe, its data or its base model is not right; raised before weights
            are loaded wherever that can be known then.
    """
    published, *other_seeds = recipe.all_seeds
    with create_run_directory(recipe.name, output) as run:
        # Task, checkpoint, target modules, tokenizer and data, checked before weights are loaded.
        context = prepare(
            recipe, checkpoints=run.checkpoints, show=lambda shown: show(render(shown))
        )
        show(
            data_table(
                context.data,
                recipe.source_as_written,
                task=context.task,
                tokenizer=context.tokenizer,
            )
        )

        baselines = evaluate_baselines(context)  # constant, TF-IDF, base model, linear probe, ...
        if recipe.model.is_rounded:
            show(weights_line(baselines.weight_memory, recipe.model.precision))
        cheap = add_metrics(context, baselines.results, metrics)
        costly = add_metrics(context, train_costly_baselines(context), metrics)
        others = [train_lora(context, seed)[0].result for seed in other_seeds]
        lora, predictor = train_lora(context, published)
        overfitting = check_overfitting(
            lora.history,
            lora.arguments,
            metric=context.task.primary_metric,
            validation_rows=len(context.data.validation.rows.texts),
            against_constant=ConstantComparison(
                context.primary_metric, lora.result.evaluation.metrics, baselines.constant_metrics
            ),
        )
        show(overfitting.message)

        by_seed = add_metrics(context, [lora.result, *others], metrics)
        results = [*cheap, *costly, by_seed[0]]
        comparison = compare(
            results,
            metric=context.primary_metric,
            untrained_head=baselines.untrained_head,
            groups=lora.result.evaluation.metrics_by_group(context.data.test),
            error_summary=summarize_errors(lora.result.evaluation, context.data.test),
            seeds=dict(zip(recipe.all_seeds, by_seed, strict=True)),
            headline_warning=context.data.selection_warning,
            warnings=[*context.data.warnings, *lora.warnings],
        )
        examples = compare_examples(
            recipe.examples,
            baselines.example_predictions,
            predictor.predict_inputs(context.example_inputs),
        )

        cost = save_adapter(
            run.adapter,
            predictor.model,
            context,
            lora=lora,
            comparison=comparison,
            unquantized=baselines.unquantized,
        )
        kept = save_best_baseline(
            run.baseline, context, baselines, comparison=comparison, keep=keep
        )
        recorded = record_outputs(predictor, context.data.test.rows.inputs)
        del predictor
        free_memory()  # for the model that a fresh process loads
        reload = check_reload(run.adapter, recorded)
        if kept is not None:
            kept = replace(kept, reload=check_reload(run.baseline, kept.outputs))

        run_results = RunResults(
            baselines, results, lora, overfitting, comparison, examples, cost, reload, kept
        )
        write_run(run.folder, context, run_results)
        write_report(run.folder)
        for table in run_tables(run_results, context, folder=run.shown):
            show(table)
    show(f"Adapter: {run.final / 'adapter'}")
    show(f"Report: {run.final / REPORT_FILE}")
    return run.final
