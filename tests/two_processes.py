"""A training that runs alone, or as one of two processes; started by test_two_processes.py.

python -m tests.two_processes FOLDER
"""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from datasets import Dataset
from safetensors.torch import save_file

from lora_tune.config.lora import LoraConfig
from lora_tune.lora.adapter import adapter_tensors
from lora_tune.training.training import train_model
from tests.parts import Parts
from tests.tiny import reviews

TEXTS = [text[: 6 + 2 * number] for number, text in enumerate(reviews()[0][:24])]
EPOCHS = 2
BATCH = 2  # rows, of each of two processes
CASES = {
    "even": {"rows": 16, "accumulation": 2, "token_budget": 40, "is_comparable": True},
    "short tail": {"rows": 21, "accumulation": 2, "token_budget": 8192, "is_comparable": True},
    # One row cannot be split between two processes: it joins the step before.
    "tail of one row": {"rows": 17, "accumulation": 2, "token_budget": 99, "is_comparable": False},
}


def train_cases(folder, names, *, together):
    """Train once for each case, from the same initial weights.

    Args:
        together: how many processes' batches this one takes.
    """
    for name in names:
        case = CASES[name]
        lora = LoraConfig(rank=2, alpha=4, dropout=0.0)
        parts = Parts(folder / "base", lora, dropout=0.0)
        parts.attach()
        rank = os.environ.get("RANK", "alone")
        if rank == "alone":
            save_file(_tensors(parts), folder / "initial.safetensors")
        encoded = dict(parts.tokenizer(TEXTS[: case["rows"]], truncation=True, max_length=64))
        encoded["labels"] = [number % 3 for number in range(case["rows"])]
        encoded["length"] = [len(ids) for ids in encoded["input_ids"]]
        numbers = {tuple(ids): number for number, ids in enumerate(encoded["input_ids"])}
        batches = []

        def watch(rows, collate=parts.collate, numbers=numbers, batches=batches):
            if "labels" in rows[0]:  # else it checks whether a speed-up changes nothing
                batches.append([numbers[tuple(row["input_ids"])] for row in rows])
            return collate(rows)

        split = SimpleNamespace(encoded=Dataset.from_dict(encoded))
        context = parts.context(
            SimpleNamespace(
                train=split,
                validation=split,
                labels=parts.labels,
                class_weights=[1.0, 2.0, 0.5],
                can_select=False,
            ),
            folder / "checkpoints",
            per_device_train_batch_size=BATCH * together,
            gradient_accumulation_steps=case["accumulation"],
            token_budget=case["token_budget"],
            num_train_epochs=EPOCHS,
            eval_strategy="no",
            save_strategy="no",
            load_best_model_at_end=False,
            optim="sgd",  # Adam would divide rounding errors by others where gradients vanish
            learning_rate=0.1,
            max_grad_norm=0,  # clipping would hide a wrong scale
            logging_steps=1,
        )
        with mock.patch("lora_tune.run_context.make_collator", lambda *_, watch=watch: watch):
            history, _ = train_model(context, "lora", parts.adapted, {"seed": 42})
        save_file(_tensors(parts), folder / f"{name}-{rank}.safetensors")
        losses = [step["train_loss"] for step in history.steps]
        record = json.dumps({"batches": batches, "losses": losses})
        (folder / f"{name}-{rank}.json").write_text(record)


def _tensors(parts):
    return {name: tensor.contiguous() for name, tensor in adapter_tensors(parts.adapted).items()}


if __name__ == "__main__":
    train_cases(Path(sys.argv[1]), CASES, together=1)
