"""TRL: its SFTTrainer on plain texts, packed."""

import time

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

from benchmarks.peers.job import (
    progress_callback,
    read_job,
    read_rows,
    report_result,
    trainer_arguments,
)

job = read_job()
trainer = SFTTrainer(
    model=job.base,
    args=SFTConfig(
        **trainer_arguments(job),
        bf16=True,
        gradient_checkpointing=False,
        packing=True,
        packing_strategy="wrapped",  # the others need an attention kernel for GPUs
        max_length=job.max_length,
        pad_token="<|endoftext|>",
    ),
    train_dataset=Dataset.from_list([{"text": row["text"]} for row in read_rows(job.train)]),
    peft_config=LoraConfig(
        task_type="CAUSAL_LM",
        r=job.rank,
        lora_alpha=job.alpha,
        target_modules=job.modules,
        fan_in_fan_out=True,
    ),
    callbacks=[progress_callback()],
)
start = time.perf_counter()
trainer.train()
seconds = time.perf_counter() - start
trainer.save_model(job.folder)
report_result("trl", train_seconds=seconds, settings="bf16, packing")
