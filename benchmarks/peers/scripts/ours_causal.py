"""lora_tune: a language model on plain texts."""

import os
from pathlib import Path

from benchmarks.peers.job import Job, read_job, report_result


def main(job: Job) -> None:
    """Train, save, report; test rows are evaluated elsewhere, as for the other contestants."""
    from lora_tune.system.environment import keep_freed_memory, quiet_libraries

    keep_freed_memory()
    quiet_libraries()
    from benchmarks.lora_training import attach_lora, load_context
    from lora_tune.evaluation.results import LORA
    from lora_tune.lora.adapter import write_peft_directory
    from lora_tune.training.training import train_model

    context = load_context(
        "gpt2_tweets_causal_lora",
        name_overrides(job),
        checkpoints=Path(job.folder) / "checkpoints",
    )
    model = attach_lora(context, context.load_base_model(job.seed))
    history, _ = train_model(context, LORA, model, {"seed": job.seed})
    write_peft_directory(
        model,
        Path(job.folder),
        checkpoint=context.checkpoint,
        tokenizer=context.tokenizer,
        labels=[],
        task=context.task,
    )
    report_result(
        "lora-tune", train_seconds=history.train_seconds, settings="bf16, texts concatenated"
    )


def name_overrides(job: Job) -> list[str]:
    """Name the job's rows and settings as overrides of the recipe."""
    # Validation rows are required, but select nothing here: the others train on all rows.
    validation = Path(job.folder) / "validation.jsonl"
    validation.write_text('{"text": "This row is not used."}\n')
    files = {"train": job.train, "validation": str(validation), "test": job.test}
    return [
        f"model.name={job.base}",
        "model.pad_token=null",
        f"data.source={job.train}",
        *(f"data.{split}.{key}=null" for split in files for key in ("samples", "split")),
        *(f"data.{split}.file={path}" for split, path in files.items()),
        f"data.max_length={job.max_length}",
        f"lora.rank={job.rank}",
        f"lora.alpha={job.alpha}",
        f"lora.target_modules=[{', '.join(job.modules)}]",
        f"training.learning_rate={job.learning_rate}",
        f"training.per_device_train_batch_size={job.batch}",
        "training.gradient_accumulation_steps=1",
        f"training.num_train_epochs={job.epochs}",
        f"training.seed={job.seed}",
        "training.eval_strategy='no'",
        "training.save_strategy='no'",
        "training.load_best_model_at_end=false",
        "training.bf16=true",
    ]


os.environ["LORA_TUNE_CACHE"] = ""  # no result of an earlier run is used
main(read_job())
