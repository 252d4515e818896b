"""TRL: its SFTTrainer on plain texts, packed."""

import time

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer
from work import read_rows, read_work, report, step_teller, trainer_arguments

work = read_work()
trainer = SFTTrainer(
    model=work.base,
    args=SFTConfig(
        **trainer_arguments(work),
        bf16=True,
        gradient_checkpointing=False,
        packing=True,
        packing_strategy="wrapped",  # others want an attention kernel of a GPU
        max_length=work.max_length,
        pad_token="<|endoftext|>",
    ),
    train_dataset=Dataset.from_list([{"text": row["text"]} for row in read_rows(work.train)]),
    peft_config=LoraConfig(
        task_type="CAUSAL_LM",
        r=work.rank,
        lora_alpha=work.alpha,
        target_modules=work.modules,
        fan_in_fan_out=True,
    ),
    callbacks=[step_teller()],
)
start = time.perf_counter()
trainer.train()
seconds = time.perf_counter() - start
trainer.save_model(work.folder)
report("trl", train_seconds=seconds, settings="bf16, packing")
