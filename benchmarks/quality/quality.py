"""The table of record: what an unchanged recipe gives from few rows: `make quality DATA=FOLDER`.

Trains LoRA, the cheap baselines and others on every data set, size and seed, with no key of the
recipe set but data, task, base model and seed. What results/quality.json has already is not trained
again; MINUTES=N begins no training after that time. Writes results/quality.md.
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.kept_output import RESULTS, name_processor
from benchmarks.quality.cells import DATA_SETS, prepare_cell
from benchmarks.quality.parallel_jobs import run_jobs
from benchmarks.quality.quality_page import write_page
from lora_tune.system.environment import describe_environment, find_device

RECORD = RESULTS / "quality.json"
SEEDS = (1, 2, 3)
SIZES = (100, 300, 1000)
LARGE = ("airline_tweets", "banking77")  # with 3,000 rows too
TEST_ROWS = 1000  # at most
COSTLY_SIZE = 300  # rows at which what costs most is trained too
# The defaults of 0.1.0.
OLD_DEFAULTS = (
    "model.pooling=model",
    "lora.init_head_weights=default",
    "training.num_train_epochs=3",
    "training.learning_rate=1e-3",
    "training.load_best_model_at_end=true",
)


@dataclass(frozen=True)
class Job:
    """One training, or several that share their data."""

    data: str
    rows: int
    seed: int
    system: str  # a key of SYSTEMS


def main(folder: Path, minutes: float) -> None:
    """Train what is not recorded yet, then write the page.

    Args:
        folder: of the data sets.
        minutes: after which no further training begins.
    """
    write_page(run_jobs(list_jobs(), run_job, folder, record=RECORD, minutes=minutes))


def list_jobs() -> Iterator[Job]:
    """List all trainings, the most telling first."""
    for seed in SEEDS:
        for system in ("lora", "old_defaults"):
            for rows in (*SIZES, 3000):
                for data in DATA_SETS if rows in SIZES else LARGE:
                    yield Job(data, rows, seed, system)
    for system in ("full", "trainer"):
        for seed in SEEDS:
            for data in DATA_SETS:
                yield Job(data, COSTLY_SIZE, seed, system)


def run_job(job: Job, folder: Path) -> dict[str, Any]:
    """Train, and evaluate on the test rows.

    Returns:
        Results by system, the comparison of LoRA with the best cheap baseline, seconds, machine.
    """
    start = time.perf_counter()
    overrides = OLD_DEFAULTS if job.system == "old_defaults" else ()
    with prepare_cell(
        folder,
        job.data,
        rows=job.rows,
        seed=job.seed,
        test_rows=TEST_ROWS,
        overrides=overrides,
    ) as context:
        found = SYSTEMS[job.system](context, job.seed)
    metric = context.primary_metric
    environment = describe_environment(find_device())
    return found | {
        "metric": metric.name,
        "lower_is_better": metric.lower_is_better,
        "train_rows": len(context.data.train.encoded),
        "validation_rows": len(context.data.validation.encoded),
        "test_rows": len(context.data.test.encoded),
        "seconds": round(time.perf_counter() - start, 1),
        "machine": name_processor(environment),
        "commit": (environment["git"] or {}).get("commit", "")[:7],
    }


def _train_lora(context: Any, seed: int) -> dict[str, Any]:
    """LoRA and everything cheaper, compared as a run does."""
    from lora_tune.evaluation.baselines import evaluate_baselines
    from lora_tune.evaluation.comparison import compare
    from lora_tune.training.training import train_lora

    baselines = evaluate_baselines(context)
    lora, _ = train_lora(context, seed)
    comparison = compare(
        [*baselines.results, lora.result],
        metric=context.primary_metric,
        untrained_head=baselines.untrained_head,
        warnings=[],
    )
    return {
        "results": _scores([*baselines.results, lora.result], context),
        "against": {
            c.name: {
                "difference": c.paired.difference,
                "interval": c.paired.interval,
                "p_value": c.paired.p_value,
            }
            for c in comparison.comparisons
        },
        "recommended": comparison.recommended,
        "epochs": lora.history.evaluations[-1]["epoch"] if lora.history.evaluations else None,
        "train_seconds": round(lora.history.train_seconds, 1),
    }


def _train_old(context: Any, seed: int) -> dict[str, Any]:
    from lora_tune.training.training import train_lora

    lora, _ = train_lora(context, seed)
    return {
        "results": _scores([lora.result], context),
        "train_seconds": round(lora.history.train_seconds, 1),
    }


def _train_full(context: Any, seed: int) -> dict[str, Any]:
    """All weights, with the head, the schedule and the length of LoRA's training."""
    from dataclasses import replace

    from lora_tune.training.training import train_costly_baselines

    baselines = replace(context.recipe.baselines, full_fine_tuning=True)
    context = replace(context, recipe=replace(context.recipe, baselines=baselines))
    (result,) = train_costly_baselines(context)
    return {"results": _scores([result], context), "train_seconds": result.train_seconds}


def _train_with_trainer(context: Any, seed: int) -> dict[str, Any]:
    """PEFT and transformers.Trainer with the settings of PEFT's own examples."""
    import transformers
    from peft import LoraConfig, get_peft_model

    from lora_tune.evaluation.model_evaluation import evaluate_model
    from lora_tune.tasks import make_task

    task = make_task(context.task.name, threshold=0.5)
    transformers.set_seed(seed)
    labels = context.data.labels
    model = getattr(transformers, task.auto_class).from_pretrained(
        context.checkpoint.folder, num_labels=len(labels), problem_type=task.problem_type
    )
    lora = LoraConfig(
        task_type=task.peft_task_type,
        r=8,
        lora_alpha=16,
        lora_dropout=0.1,
        target_modules=["query", "value"],
    )
    model = get_peft_model(model, lora)
    collate = getattr(transformers, task.collator)(context.tokenizer)
    rows = context.data.train.encoded.remove_columns("length")
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=str(context.checkpoints),
            learning_rate=1e-3,
            num_train_epochs=3,
            per_device_train_batch_size=16,
            seed=seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=find_device() == "cpu",
        ),
        train_dataset=rows,
        data_collator=collate,
    )
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    evaluation = evaluate_model(
        model, context.data.test, task=task, collate=context.collate(model), title=""
    )
    name = task.primary_metric.name
    return {
        "results": {"trainer": round(evaluation.metrics[name], 4)},
        "train_seconds": round(seconds, 1),
    }


def _scores(results: Any, context: Any) -> dict[str, float]:
    name = context.primary_metric.name
    return {result.name: round(result.evaluation.metrics[name], 4) for result in results}


SYSTEMS: dict[str, Callable[[Any, int], dict[str, Any]]] = {
    "lora": _train_lora,
    "old_defaults": _train_old,
    "full": _train_full,
    "trainer": _train_with_trainer,
}


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
