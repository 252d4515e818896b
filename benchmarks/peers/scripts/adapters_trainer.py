"""AdapterHub's adapters: LoRA and its own head, in its AdapterTrainer."""

import time

import adapters
import transformers

from benchmarks.peers.job import (
    predict_labels,
    progress_callback,
    read_job,
    report_result,
    tokenize_rows,
    trainer_arguments,
)

job = read_job()
transformers.set_seed(job.seed)
tokenizer = transformers.AutoTokenizer.from_pretrained(job.base)
model = adapters.AutoAdapterModel.from_pretrained(job.base)
model.add_classification_head("reviews", num_labels=2)
matrices = [name[0] for name in job.modules]  # "q" for query
config = adapters.LoRAConfig(r=job.rank, alpha=job.alpha, attn_matrices=matrices)
model.add_adapter("reviews", config=config)
model.train_adapter("reviews")
trainer = adapters.AdapterTrainer(
    model=model,
    args=transformers.TrainingArguments(**trainer_arguments(job), bf16=True, group_by_length=True),
    train_dataset=tokenize_rows(tokenizer, job),
    data_collator=transformers.DataCollatorWithPadding(tokenizer),
    callbacks=[progress_callback()],
)
start = time.perf_counter()
trainer.train()
seconds = time.perf_counter() - start
report_result(
    "adapters",
    train_seconds=seconds,
    settings="bf16, group_by_length",
    predictions=predict_labels(trainer.accelerator.unwrap_model(model, False), tokenizer, job),
)
