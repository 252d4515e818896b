"""PEFT around a model in transformers.Trainer, as tutorials write it; `tuned`, by its switches."""

import sys
import time

import transformers
from peft import LoraConfig, get_peft_model
from work import classify, encode, read_work, report, step_teller, trainer_arguments

work, tuned = read_work(), sys.argv[2:] == ["tuned"]
transformers.set_seed(work.seed)
tokenizer = transformers.AutoTokenizer.from_pretrained(work.base)
model = transformers.AutoModelForSequenceClassification.from_pretrained(work.base, num_labels=2)
config = LoraConfig(
    task_type="SEQ_CLS", r=work.rank, lora_alpha=work.alpha, target_modules=work.modules
)
model = get_peft_model(model, config)
switches = {"bf16": True, "train_sampling_strategy": "group_by_length"} if tuned else {}
trainer = transformers.Trainer(
    model=model,
    args=transformers.TrainingArguments(**trainer_arguments(work), **switches),
    train_dataset=encode(tokenizer, work),
    data_collator=transformers.DataCollatorWithPadding(tokenizer),
    callbacks=[step_teller()],
)
start = time.perf_counter()
trainer.train()
seconds = time.perf_counter() - start
report(
    "peft",
    train_seconds=seconds,
    settings="bf16, group_by_length" if tuned else "",
    answers=classify(trainer.accelerator.unwrap_model(model, False), tokenizer, work),
)
