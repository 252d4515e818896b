"""SetFit, as its guide has it: contrastive training of the whole body, then logistic regression."""

import time

from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments

from benchmarks.peers.job import progress_callback, read_job, read_rows, report_result

job = read_job()
rows = read_rows(job.train)
model = SetFitModel.from_pretrained(job.base)
model.model_body.max_seq_length = job.max_length
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir=job.folder,
        seed=job.seed,
        report_to="none",
        batch_size=job.batch,
        max_steps=job.epochs * len(rows) // (2 * job.batch),
    ),
    train_dataset=Dataset.from_list(rows),
    callbacks=[progress_callback()],
)
start = time.perf_counter()
trainer.train()
seconds = time.perf_counter() - start
report_result(
    "setfit",
    train_seconds=seconds,
    settings="all weights, on pairs of texts; as many texts as in the epochs of the others",
    predictions=model.predict([row["text"] for row in read_rows(job.test)]).tolist(),
)
