"""The labeled rows that a saved model is evaluated on: its run's test rows, or a file's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_tune.artifacts.saved_model import SavedModel, load_saved_tokenizer
from lora_tune.artifacts.training_rows import count_training_rows
from lora_tune.commands.prediction_file import INPUT_PREFIX
from lora_tune.config.recipe import Recipe
from lora_tune.config.saved_recipe import load_saved_recipe
from lora_tune.data.given_rows import load_file
from lora_tune.data.rows import Split
from lora_tune.data.splits import load_data
from lora_tune.errors import DataError
from lora_tune.tasks import Task


@dataclass(frozen=True)
class EvaluationRows:
    """Labeled rows, and the recipe that says how they are read."""

    recipe: Recipe  # of the run: its rows, seeds and generation; all else at its defaults
    split: Split
    warnings: list[str]  # about the rows, for a reader of metrics on them


def load_evaluation_rows(saved: SavedModel, data: Path | None) -> EvaluationRows:
    """Load labeled rows for an adapter or a baseline.

    Args:
        saved: whose recipe names the columns.
        data: a file of rows; None for the test rows of its run.

    Raises:
        RecipeError: a value of the recipe is not available here, such as an environment variable.
        DataError: the rows cannot be read, or have changed since the run.
    """
    manifest, task = saved.manifest, saved.task
    recipe = load_saved_recipe(
        manifest.recipe,
        name=manifest.recipe_name,
        where=f"{saved.name}: its recipe",
        base="-" if manifest.base is None else manifest.base.name,
        source=None if data is None else "-",  # the run's own source is not needed then
    )
    tokenizer = None if manifest.base is None else load_saved_tokenizer(saved.folder)
    # A single label is the column's own name, or there are none.
    labels = manifest.labels if len(manifest.labels) > 1 else None
    if data is not None:
        split, notes = load_file(
            data,
            recipe.data,
            task,
            labels=manifest.labels,
            tokenizer=tokenizer,
            predicted=_predicted_column(task, manifest.labels),
            renamed=INPUT_PREFIX + recipe.data.label,
        )
        known = count_training_rows(saved.folder, split.rows.texts)
        found = _describe_known(data, split, known, noun=manifest.noun)
        return EvaluationRows(recipe, split, [*notes, *found])
    try:
        loaded = load_data(recipe.data, task, tokenizer, labels=labels)
    except DataError as error:
        raise DataError(f"{error}; or name a file of labeled rows with --data FILE") from None
    if loaded.fingerprint() != manifest.data_fingerprint:
        raise DataError(
            f"{recipe.source_as_written}: its rows have changed since the run, so the "
            f"{manifest.noun} may have been trained on some of its test rows; name a file of "
            "labeled rows with --data FILE"
        )
    return EvaluationRows(recipe, loaded.test, loaded.warnings)


def _predicted_column(task: Task, labels: Sequence[str]) -> str | None:
    """Name the column with the labels of a file of predictions, where these are read as labels."""
    is_read = task.output_kind in ("class", "labels", "value", "span")
    return task.prediction_columns(labels)[0] if is_read else None


def _describe_known(data: Path, split: Split, known: int | None, *, noun: str) -> Iterator[str]:
    """Describe how many rows of a file an adapter or a baseline was trained on."""
    total = len(split.rows.texts)
    if known is None:
        yield (
            f"The {noun} may have been trained on rows of {data}: it is not in its run directory, "
            "which has the hashes of its training rows."
        )
    elif known:
        yield (
            f"The {noun} was trained or selected on {known} of the {total} rows of {data}, so its "
            "result is too optimistic."
        )
