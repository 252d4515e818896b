"""NeMo AutoModel: its recipe for sequence classification with LoRA, as its guide configures it."""

import time
from typing import Any

import torch
from nemo_automodel.components.config.loader import ConfigNode
from nemo_automodel.recipes.llm.train_seq_cls import TrainFinetuneRecipeForSequenceClassification

from benchmarks.peers.job import Job, predict_labels, read_job, read_rows, report_result

# It requires a GPU; these replacements let it run on the CPU.
torch.cuda.current_device = lambda: 0
torch.cuda.reset_peak_memory_stats = lambda *_: None
torch.cuda.max_memory_allocated = lambda *_: 0
move = torch.nn.Module.to
torch.nn.Module.to = lambda module, *_, **__: move(module, "cpu")


class Reviews:
    """The training rows, in the format of the recipe's data sets."""

    def __init__(self, tokenizer: Any, path: str, max_length: int) -> None:
        self.rows = read_rows(path)
        self.tokenizer, self.max_length = tokenizer, max_length

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        encoded = self.tokenizer(row["text"], truncation=True, max_length=self.max_length)
        padding = {"input_ids": self.tokenizer.pad_token_id, "labels": -100, "attention_mask": 0}
        return {
            "input_ids": encoded["input_ids"],
            "attention_mask": encoded["attention_mask"],
            "labels": [row["label"]],
            "___PAD_TOKEN_IDS___": padding,
        }


def configure(job: Job) -> dict[str, Any]:
    """Make the recipe's configuration."""
    return {
        "seed": job.seed,
        "step_scheduler": {
            "global_batch_size": job.batch,
            "local_batch_size": job.batch,
            "num_epochs": job.epochs,
        },
        "dist_env": {"backend": "gloo", "timeout_minutes": 1},
        "distributed": {"tp_size": 1, "cp_size": 1},
        "model": {
            "_target_": "nemo_automodel.NeMoAutoModelForSequenceClassification.from_pretrained",
            "pretrained_model_name_or_path": job.base,
            "num_labels": 2,
        },
        "checkpoint": {
            "enabled": False,
            "checkpoint_dir": job.folder,
            "skip_task_head_prefixes_for_base_model": ["classifier."],
        },
        "peft": {
            "_target_": "nemo_automodel.components._peft.lora.PeftConfig",
            "target_modules": [f"*.{name}" for name in job.modules],
            "dim": job.rank,
            "alpha": job.alpha,
            "lora_dtype": torch.float32,
        },
        "dataset": {"_target_": Reviews, "path": job.train, "max_length": job.max_length},
        "dataloader": {
            "_target_": "torchdata.stateful_dataloader.StatefulDataLoader",
            "collate_fn": "nemo_automodel.components.datasets.utils.default_collater",
            "shuffle": True,
        },
        "optimizer": {"_target_": "torch.optim.AdamW", "lr": job.learning_rate},
    }


job = read_job()
recipe = TrainFinetuneRecipeForSequenceClassification(ConfigNode(configure(job)))
recipe.setup()
recipe._autocast_context = lambda: torch.autocast("cpu", torch.bfloat16)
start = time.perf_counter()
recipe.run_train_validation_loop()
seconds = time.perf_counter() - start
report_result(
    "nemo-automodel",
    train_seconds=seconds,
    settings="bf16 base model, autocast; calls that need a GPU replaced",
    predictions=predict_labels(recipe.model_parts[0].float(), recipe.tokenizer, job),
)
