"""What all contestants share: the job they are given, and how they report on it.

Importing it needs only the standard library, for each peer has its own environment.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """One training, the same for all contestants."""

    base: str  # folder of the base model
    train: str  # a file of JSON lines with `text`, and `label` where rows are labeled
    test: str  # the same; used for evaluation only
    folder: str  # empty, for what a contestant writes
    modules: list[str]  # names of the modules that get LoRA
    epochs: int
    batch: int  # rows
    seed: int
    rank: int = 8
    alpha: int = 16
    learning_rate: float = 1e-3
    max_length: int = 256  # tokens


def read_job() -> Job:
    """Read the job from the command line."""
    return Job(**json.loads(sys.argv[1]))


def read_rows(path: str) -> list[dict[str, Any]]:
    """Read JSON lines."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def report_progress(progress: str) -> None:
    """Report progress: what is kept of a contestant that does not finish in time."""
    print(json.dumps({"progress": progress}), flush=True)


def progress_callback() -> Any:
    """Make a callback of transformers.Trainer that reports each step."""
    from transformers import TrainerCallback

    class ProgressReporter(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            report_progress(f"step {state.global_step} of {state.max_steps}")

    return ProgressReporter()


def report_result(
    package: str,
    *,
    train_seconds: float,
    settings: str,
    predictions: Sequence[int] | None = None,
) -> None:
    """Report the result.

    Args:
        package: whose version is recorded.
        train_seconds: without imports, loading and the test rows.
        settings: those that are the contestant's own, in words.
        predictions: the label of each test row, in order; None where an adapter was saved instead.
    """
    result = {
        "version": f"{package} {metadata.version(package)}",
        "train_seconds": train_seconds,
        "settings": settings,
    }
    if predictions is not None:
        result["predictions"] = [int(label) for label in predictions]
    print(json.dumps(result))


def trainer_arguments(job: Job) -> dict[str, Any]:
    """Make the arguments that every transformers.Trainer gets."""
    return {
        "output_dir": job.folder,
        "learning_rate": job.learning_rate,
        "per_device_train_batch_size": job.batch,
        "num_train_epochs": job.epochs,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": job.seed,
    }


def tokenize_rows(tokenizer: Any, job: Job) -> list[dict[str, Any]]:
    """Tokenize the labeled training rows for transformers.Trainer."""
    rows = read_rows(job.train)
    texts = [row["text"] for row in rows]
    ids = tokenizer(texts, truncation=True, max_length=job.max_length)["input_ids"]
    return [
        {"input_ids": i, "attention_mask": [1] * len(i), "labels": row["label"]}
        for i, row in zip(ids, rows, strict=True)
    ]


def predict_labels(model: Any, tokenizer: Any, job: Job) -> list[int]:
    """Predict the labels of the test rows, in float32 and in batches of similar length."""
    import torch

    texts = [row["text"] for row in read_rows(job.test)]
    model.eval()
    labels = [0] * len(texts)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for start in range(0, len(order), 32):
        batch = order[start : start + 32]
        inputs = tokenizer(
            [texts[i] for i in batch],
            truncation=True,
            max_length=job.max_length,
            padding=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            predicted = model(**inputs).logits.argmax(-1).tolist()
        for i, label in zip(batch, predicted, strict=True):
            labels[i] = label
    return labels
