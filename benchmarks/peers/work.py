"""What all contestants share: the work as it is given, how far they are, what came of it.

Needs nothing beyond the standard library where it is imported: each peer has its own environment.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Work:
    """One training, the same for all that take part."""

    base: str  # folder of the model
    train: str  # JSON lines with `text`, and `label` where rows are labelled
    test: str  # likewise; nothing is chosen on it
    folder: str  # empty, for what a contestant writes
    modules: list[str]  # that bear LoRA
    epochs: int
    batch: int  # rows
    seed: int
    rank: int = 8
    alpha: int = 16
    learning_rate: float = 1e-3
    max_length: int = 256  # tokens


def read_work() -> Work:
    """Read the work from the command line."""
    return Work(**json.loads(sys.argv[1]))


def read_rows(path: str) -> list[dict[str, Any]]:
    """Read JSON lines."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def tell(progress: str) -> None:
    """Say how far it is: what is kept of a contestant that does not end in time."""
    print(json.dumps({"progress": progress}), flush=True)


def step_teller() -> Any:
    """Make a callback of transformers.Trainer that tells each step."""
    from transformers import TrainerCallback

    class StepTeller(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            tell(f"step {state.global_step} of {state.max_steps}")

    return StepTeller()


def report(
    package: str, *, train_seconds: float, settings: str, answers: Sequence[int] | None = None
) -> None:
    """Say what came of it.

    Args:
        package: whose version is told.
        train_seconds: without imports, loading and the test rows.
        settings: in words, where they are the peer's own.
        answers: a label for each test row, in order.
    """
    result = {"version": f"{package} {metadata.version(package)}", "train_seconds": train_seconds}
    result |= {"settings": settings}
    print(json.dumps(result | ({} if answers is None else {"answers": list(map(int, answers))})))


def trainer_arguments(work: Work) -> dict[str, Any]:
    """Name what every transformers.Trainer is told."""
    return {
        "output_dir": work.folder,
        "learning_rate": work.learning_rate,
        "per_device_train_batch_size": work.batch,
        "num_train_epochs": work.epochs,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": work.seed,
    }


def encode(tokenizer: Any, work: Work) -> list[dict[str, Any]]:
    """Tokenise the labelled training rows for transformers.Trainer."""
    rows = read_rows(work.train)
    texts = [row["text"] for row in rows]
    ids = tokenizer(texts, truncation=True, max_length=work.max_length)["input_ids"]
    return [
        {"input_ids": i, "attention_mask": [1] * len(i), "labels": row["label"]}
        for i, row in zip(ids, rows, strict=True)
    ]


def classify(model: Any, tokenizer: Any, work: Work) -> list[int]:
    """Answer the test rows in batches of like length, in float32."""
    import torch

    texts = [row["text"] for row in read_rows(work.test)]
    model.eval()
    answers = [0] * len(texts)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for start in range(0, len(order), 32):
        batch = order[start : start + 32]
        inputs = tokenizer(
            [texts[i] for i in batch],
            truncation=True,
            max_length=work.max_length,
            padding=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            found = model(**inputs).logits.argmax(-1).tolist()
        for i, answer in zip(batch, found, strict=True):
            answers[i] = answer
    return answers
