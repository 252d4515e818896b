"""SetFit, as its guide has it: the whole body by contrast of pairs, then logistic regression."""

import time

from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments
from work import read_rows, read_work, report, step_teller

work = read_work()
rows = read_rows(work.train)
model = SetFitModel.from_pretrained(work.base)
model.model_body.max_seq_length = work.max_length
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir=work.folder,
        seed=work.seed,
        report_to="none",
        batch_size=work.batch,
        max_steps=work.epochs * len(rows) // (2 * work.batch),
    ),
    train_dataset=Dataset.from_list(rows),
    callbacks=[step_teller()],
)
start = time.perf_counter()
trainer.train()
seconds = time.perf_counter() - start
report(
    "setfit",
    train_seconds=seconds,
    settings="all weights by pairs, as many texts as the others' epochs have",
    answers=model.predict([row["text"] for row in read_rows(work.test)]).tolist(),
)
