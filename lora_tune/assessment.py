"""A saved adapter against its base once more, on its own test rows or on others."""

import json
from collections.abc import Callable
from pathlib import Path

from lora_tune.adapter import load_adapter_weights
from lora_tune.artifact import Artifact, find_adapter
from lora_tune.batching import make_collator
from lora_tune.comparison import BASE, LORA, Comparison, compare, comparison_json
from lora_tune.data import load_data, load_file
from lora_tune.environment import seed_everything
from lora_tune.errors import DataError
from lora_tune.ladder import Rung
from lora_tune.past_recipe import recall_recipe
from lora_tune.predictor import load_adapter_base, load_adapter_tokenizer
from lora_tune.recipe import Recipe
from lora_tune.redaction import redact
from lora_tune.rows import Split
from lora_tune.text_metrics import check_references
from lora_tune.writing import evaluate_test, find_measure_of, find_writer


def assess_adapter(
    source: str | Path,
    *,
    data: Path | None = None,
    base: str | None = None,
    show: Callable[[str], None],
) -> Comparison:
    """Compare a saved adapter with its base, its fresh head drawn again from the run's seed.

    Args:
        source: an adapter directory or a Hub id.
        data: a file of labelled rows, in the recipe's columns; None for the run's own test rows.
        base: where the base is; None for the place that the adapter names.
        show: takes a line on the rows.

    Raises:
        LoraTuneError: the adapter, its base or the rows are not there, or not what they should be.
    """
    artifact = find_adapter(source)
    task = artifact.task
    recipe = read_recipe(artifact, data)
    split, caveats = find_rows(artifact, recipe, data)
    check_references(recipe.generation.metric, split)
    show(f"{len(split.rows.texts)} rows: {data or recipe.source_as_written}")
    seed_everything(recipe.all_seeds[0])
    model, tokenizer, fresh_head = load_adapter_base(artifact, base)
    collate = make_collator(tokenizer, task, model)
    writer = find_writer(task, tokenizer, recipe.generation)
    before = evaluate_test(model, split, task, collate=collate, writer=writer, title="base")
    adapted = load_adapter_weights(model, artifact.folder)
    after = evaluate_test(adapted, split, task, collate=collate, writer=writer, title="adapted")
    parts = task.break_down(after.answers, split)
    rungs = [Rung(BASE, before, None, None), Rung(LORA, after, None, None)]
    return compare(
        rungs,
        task=task,
        measure=find_measure_of(task, writer),
        fresh_head=fresh_head,
        parts=parts,
        caveats=caveats,
    )


def read_recipe(artifact: Artifact, data: Path | None) -> Recipe:
    """Read what the rows and the seed were, from the recipe that an adapter was trained by.

    Args:
        data: stands in for the recipe's source, which need not be at hand then.

    Raises:
        RecipeError: a value of it cannot be had here, such as an environment variable.
    """
    manifest = artifact.manifest
    return recall_recipe(
        manifest.recipe,
        name=manifest.recipe_name,
        where=f"{artifact.name}: its recipe",
        base=manifest.base.name,
        labels=manifest.labels,
        source="-" if data else None,
    )


def find_rows(artifact: Artifact, recipe: Recipe, data: Path | None) -> tuple[Split, list[str]]:
    """Load labelled rows, and what a reader of any number from them must know.

    Raises:
        DataError: they are not there, or no longer those of the run.
    """
    task, manifest = artifact.task, artifact.manifest
    tokenizer = load_adapter_tokenizer(artifact.folder)
    if data is not None:
        rows = load_file(data, recipe.data, task, labels=manifest.labels, tokenizer=tokenizer)
        return rows, [f"Nothing tells whether rows of {data} were trained on."]
    try:
        loaded = load_data(recipe.data, task, tokenizer)
    except DataError as error:
        raise DataError(f"{error}; or give labelled rows with --data FILE") from None
    if loaded.fingerprint() != manifest.data_fingerprint:
        raise DataError(
            f"{recipe.source_as_written}: its rows are no longer those of the run, so some may "
            "have been trained on; give labelled rows with --data FILE"
        )
    return loaded.test, loaded.caveats


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write a comparison as JSON.

    Raises:
        DataError: the file cannot be written.
    """
    text = json.dumps(comparison_json(comparison), indent=2, ensure_ascii=False) + "\n"
    try:
        path.write_text(redact(text), encoding="utf-8")
    except OSError as error:
        raise DataError(f"--output {path}: cannot be written: {error.strerror}") from None
