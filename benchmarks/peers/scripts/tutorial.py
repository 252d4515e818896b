"""PEFT around a classifier in transformers.Trainer, as tutorials write it.

`tuned`: with Trainer's own switches for speed; `no_dropout`: without dropout in the base model, as
the recipe of lora_tune trains.
"""

import sys
import time

import transformers
from peft import LoraConfig, get_peft_model

from benchmarks.peers.job import (
    predict_labels,
    progress_callback,
    read_job,
    report_result,
    tokenize_rows,
    trainer_arguments,
)

# The head keeps its own.
NO_DROPOUT = {
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "classifier_dropout": 0.1,
}
job, options = read_job(), sys.argv[2:]
transformers.set_seed(job.seed)
tokenizer = transformers.AutoTokenizer.from_pretrained(job.base)
model = transformers.AutoModelForSequenceClassification.from_pretrained(
    job.base, num_labels=2, **(NO_DROPOUT if "no_dropout" in options else {})
)
config = LoraConfig(
    task_type="SEQ_CLS", r=job.rank, lora_alpha=job.alpha, target_modules=job.modules
)
model = get_peft_model(model, config)
tuned = {"bf16": True, "train_sampling_strategy": "group_by_length"}
trainer = transformers.Trainer(
    model=model,
    args=transformers.TrainingArguments(
        **trainer_arguments(job), **(tuned if "tuned" in options else {})
    ),
    train_dataset=tokenize_rows(tokenizer, job),
    data_collator=transformers.DataCollatorWithPadding(tokenizer),
    callbacks=[progress_callback()],
)
start = time.perf_counter()
trainer.train()
seconds = time.perf_counter() - start
settings = ["bf16, group_by_length"] if "tuned" in options else []
settings += ["no dropout"] if "no_dropout" in options else []
report_result(
    "peft",
    train_seconds=seconds,
    settings=", ".join(settings),
    predictions=predict_labels(trainer.accelerator.unwrap_model(model, False), tokenizer, job),
)
