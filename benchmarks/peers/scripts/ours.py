"""lora_tune: the recipe minilm_imdb_lora on the job's rows.

`same`: with the settings of the other contestants; `no_dropout`: with the same but without dropout
in the base model; `linear_probe`: the baseline that fits a linear model to the frozen base model.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers.job import Job, read_job, read_rows, report_result

if TYPE_CHECKING:
    from lora_tune.run_context import RunContext

RECIPE, LINEAR_PROBE = "recipe", "linear_probe"
DROPOUT = {"same": "null", "no_dropout": "0.0"}  # option -> model.dropout


def main(job: Job, option: str) -> None:
    """Train, predict, report."""
    from lora_tune.system.environment import keep_freed_memory, quiet_libraries

    keep_freed_memory()
    quiet_libraries()
    from benchmarks.lora_training import load_context
    from lora_tune.evaluation.baselines import evaluate_baselines
    from lora_tune.training.training import train_lora

    context = load_context(
        "minilm_imdb_lora",
        [*name_rows(job), *(name_settings(job, DROPOUT[option]) if option in DROPOUT else [])],
        checkpoints=Path(job.folder),
    )
    assert context.checkpoint.folder == Path(job.base)
    labels = [row["label"] for row in read_rows(job.test)]
    assert context.data.test.rows.labels.tolist() == labels
    if option == LINEAR_PROBE:
        results = evaluate_baselines(context).results
        result = next(result for result in results if result.name == LINEAR_PROBE)
        settings = result.note
    else:
        result = train_lora(context, job.seed)[0].result
        settings = describe_settings(context)
    assert result.train_seconds is not None
    report_result(
        "lora-tune",
        train_seconds=result.train_seconds,
        settings=settings,
        predictions=result.evaluation.predictions.tolist(),
    )


def name_rows(job: Job) -> list[str]:
    """Name the job's rows and seed as overrides of the recipe."""
    files = {"train": job.train, "test": job.test}
    return [
        f"data.source={job.train}",
        *(f"data.{split}.{key}=null" for split in files for key in ("samples", "split")),
        *(f"data.{split}.file={path}" for split, path in files.items()),
        f"training.seed={job.seed}",
    ]


def name_settings(job: Job, dropout: str) -> list[str]:
    """Name the settings of the other contestants as overrides of the recipe."""
    return [
        f"lora.rank={job.rank}",
        f"lora.alpha={job.alpha}",
        f"lora.target_modules=[{', '.join(job.modules)}]",
        f"training.learning_rate={job.learning_rate}",
        f"training.per_device_train_batch_size={job.batch}",
        f"training.num_train_epochs={job.epochs}",
        "training.warmup_steps=0",
        "training.adam_beta2=0.999",
        "training.weight_decay=0",  # the default of TrainingArguments
        f"data.max_length={job.max_length}",
        "data.truncation_side=right",
        f"model.dropout={dropout}",
    ]


def describe_settings(context: "RunContext") -> str:
    """Describe the settings in which lora_tune may differ from the others."""
    recipe, training = context.recipe, context.recipe.training
    modules = recipe.lora.target_modules
    return (
        f"{modules if isinstance(modules, str) else ', '.join(modules)}, "
        f"{training['num_train_epochs']} epochs, batches of "
        f"{training['per_device_train_batch_size']}, learning rate {training['learning_rate']:g}, "
        f"warm-up {training['warmup_steps']:g}, beta2 {training.get('adam_beta2', 0.999):g}, texts "
        f"truncated on the {recipe.data.truncation_side}, bfloat16, "
        f"{'no' if recipe.model.dropout == 0 else 'its own'} dropout in the base model; a tenth of "
        "the rows is used for validation"
    )


os.environ["LORA_TUNE_CACHE"] = ""  # no result of an earlier run is used
main(read_job(), *sys.argv[2:] or [RECIPE])
