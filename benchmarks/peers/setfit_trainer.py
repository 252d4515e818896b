"""SetFit, as its guide has it: the whole body by contrast of pairs, then logistic regression."""

import time

from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments
from work import read_rows, read_work, report, step_teller

work = read_work()
model = SetFitModel.from_pretrained(work.base)
model.model_body.max_seq_length = work.max_length
trainer = Trainer(
    model=model,
    args=TrainingArguments(output_dir=work.folder, seed=work.seed, report_to="none"),
    train_dataset=Dataset.from_list(read_rows(work.train)),
    callbacks=[step_teller()],
)
start = time.perf_counter()
trainer.train()
seconds = time.perf_counter() - start
report(
    "setfit",
    train_seconds=seconds,
    settings="its defaults",
    answers=model.predict([row["text"] for row in read_rows(work.test)]).tolist(),
)
