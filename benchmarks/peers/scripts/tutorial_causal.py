"""PEFT around a language model in transformers.Trainer, one text per row.

`tuned`: with Trainer's own switches for speed.
"""

import sys
import time

import transformers
from peft import LoraConfig, get_peft_model

from benchmarks.peers.job import (
    progress_callback,
    read_job,
    read_rows,
    report_result,
    trainer_arguments,
)

job, is_tuned = read_job(), sys.argv[2:] == ["tuned"]
transformers.set_seed(job.seed)
tokenizer = transformers.AutoTokenizer.from_pretrained(job.base)
tokenizer.pad_token = tokenizer.eos_token
model = transformers.AutoModelForCausalLM.from_pretrained(job.base)
config = LoraConfig(
    task_type="CAUSAL_LM",
    r=job.rank,
    lora_alpha=job.alpha,
    target_modules=job.modules,
    fan_in_fan_out=True,
)
model = get_peft_model(model, config)
texts = [row["text"] + tokenizer.eos_token for row in read_rows(job.train)]
ids = tokenizer(texts, truncation=True, max_length=job.max_length)["input_ids"]
tuned = {"bf16": True, "train_sampling_strategy": "group_by_length"}
trainer = transformers.Trainer(
    model=model,
    args=transformers.TrainingArguments(**trainer_arguments(job), **(tuned if is_tuned else {})),
    train_dataset=[{"input_ids": row, "attention_mask": [1] * len(row)} for row in ids],
    data_collator=transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False),
    callbacks=[progress_callback()],
)
start = time.perf_counter()
trainer.train()
seconds = time.perf_counter() - start
model.save_pretrained(job.folder)
report_result("peft", train_seconds=seconds, settings="bf16, group_by_length" if is_tuned else "")
