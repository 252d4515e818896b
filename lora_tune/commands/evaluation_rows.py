"""The labeled rows that a saved adapter is evaluated on: its run's test rows, or a file's."""

from dataclasses import dataclass
from pathlib import Path

from lora_tune.artifacts.saved_adapter import SavedAdapter, load_adapter_tokenizer
from lora_tune.config.recipe import Recipe
from lora_tune.config.saved_recipe import load_saved_recipe
from lora_tune.data.rows import Split
from lora_tune.data.splits import load_data, load_file
from lora_tune.errors import DataError


@dataclass(frozen=True)
class EvaluationRows:
    """Labeled rows, and the recipe that says how they are read."""

    recipe: Recipe  # of the run: its rows, seeds and generation; all else at its defaults
    split: Split
    warnings: list[str]  # about the rows, for a reader of metrics on them


def load_evaluation_rows(adapter: SavedAdapter, data: Path | None) -> EvaluationRows:
    """Load labeled rows for an adapter.

    Args:
        adapter: whose recipe names the columns.
        data: a file of rows; None for the test rows of the adapter's run.

    Raises:
        RecipeError: a value of the recipe is not available here, such as an environment variable.
        DataError: the rows cannot be read, or have changed since the run.
    """
    manifest, task = adapter.manifest, adapter.task
    recipe = load_saved_recipe(
        manifest.recipe,
        name=manifest.recipe_name,
        where=f"{adapter.name}: its recipe",
        base=manifest.base.name,
        source=None if data is None else "-",  # the run's own source is not needed then
    )
    tokenizer = load_adapter_tokenizer(adapter.folder)
    # A single label is the column's own name, or there are none.
    labels = manifest.labels if len(manifest.labels) > 1 else None
    if data is not None:
        split = load_file(data, recipe.data, task, labels=manifest.labels, tokenizer=tokenizer)
        return EvaluationRows(
            recipe, split, [f"The adapter may have been trained on rows of {data}."]
        )
    try:
        loaded = load_data(recipe.data, task, tokenizer, labels=labels)
    except DataError as error:
        raise DataError(f"{error}; or name a file of labeled rows with --data FILE") from None
    if loaded.fingerprint() != manifest.data_fingerprint:
        raise DataError(
            f"{recipe.source_as_written}: its rows have changed since the run, so the adapter may "
            "have been trained on some of its test rows; name a file of labeled rows with --data "
            "FILE"
        )
    return EvaluationRows(recipe, loaded.test, loaded.warnings)
