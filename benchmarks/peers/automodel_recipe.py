"""NeMo AutoModel: its recipe for sequence classification with LoRA, as its guide configures it."""

import time
from typing import Any

import torch
from nemo_automodel.components.config.loader import ConfigNode
from nemo_automodel.recipes.llm.train_seq_cls import TrainFinetuneRecipeForSequenceClassification
from work import Work, classify, read_rows, read_work, report

# It asks for a GPU by name: here the CPU answers.
torch.cuda.current_device = lambda: 0
torch.cuda.reset_peak_memory_stats = lambda *_: None
torch.cuda.max_memory_allocated = lambda *_: 0
move = torch.nn.Module.to
torch.nn.Module.to = lambda module, *_, **__: move(module, "cpu")


class Reviews:
    """The training rows, as the recipe's datasets give them."""

    def __init__(self, tokenizer: Any, path: str, max_length: int) -> None:
        self.rows = read_rows(path)
        self.tokenizer, self.max_length = tokenizer, max_length

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> dict[str, Any]:
        row = self.rows[place]
        encoded = self.tokenizer(row["text"], truncation=True, max_length=self.max_length)
        padding = {"input_ids": self.tokenizer.pad_token_id, "labels": -100, "attention_mask": 0}
        return {
            "input_ids": encoded["input_ids"],
            "attention_mask": encoded["attention_mask"],
            "labels": [row["label"]],
            "___PAD_TOKEN_IDS___": padding,
        }


def configure(work: Work) -> dict[str, Any]:
    """Say the work in the recipe's words."""
    return {
        "seed": work.seed,
        "step_scheduler": {
            "global_batch_size": work.batch,
            "local_batch_size": work.batch,
            "num_epochs": work.epochs,
        },
        "dist_env": {"backend": "gloo", "timeout_minutes": 1},
        "distributed": {"tp_size": 1, "cp_size": 1},
        "model": {
            "_target_": "nemo_automodel.NeMoAutoModelForSequenceClassification.from_pretrained",
            "pretrained_model_name_or_path": work.base,
            "num_labels": 2,
        },
        "checkpoint": {
            "enabled": False,
            "checkpoint_dir": work.folder,
            "skip_task_head_prefixes_for_base_model": ["classifier."],
        },
        "peft": {
            "_target_": "nemo_automodel.components._peft.lora.PeftConfig",
            "target_modules": [f"*.{name}" for name in work.modules],
            "dim": work.rank,
            "alpha": work.alpha,
            "lora_dtype": torch.float32,
        },
        "dataset": {"_target_": Reviews, "path": work.train, "max_length": work.max_length},
        "dataloader": {
            "_target_": "torchdata.stateful_dataloader.StatefulDataLoader",
            "collate_fn": "nemo_automodel.components.datasets.utils.default_collater",
            "shuffle": True,
        },
        "optimizer": {"_target_": "torch.optim.AdamW", "lr": work.learning_rate},
    }


work = read_work()
recipe = TrainFinetuneRecipeForSequenceClassification(ConfigNode(configure(work)))
recipe.setup()
recipe._autocast_context = lambda: torch.autocast("cpu", torch.bfloat16)
start = time.perf_counter()
recipe.run_train_validation_loop()
seconds = time.perf_counter() - start
report(
    "nemo-automodel",
    train_seconds=seconds,
    settings="bf16 base, autocast; stand-ins where it asks for a GPU",
    answers=classify(recipe.model_parts[0].float(), recipe.tokenizer, work),
)
