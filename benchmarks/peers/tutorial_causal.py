"""PEFT around a language model in transformers.Trainer, a text a row; `tuned`, by its switches."""

import sys
import time

import transformers
from peft import LoraConfig, get_peft_model
from work import read_rows, read_work, report, step_teller, trainer_arguments

work, tuned = read_work(), sys.argv[2:] == ["tuned"]
transformers.set_seed(work.seed)
tokenizer = transformers.AutoTokenizer.from_pretrained(work.base)
tokenizer.pad_token = tokenizer.eos_token
model = transformers.AutoModelForCausalLM.from_pretrained(work.base)
config = LoraConfig(
    task_type="CAUSAL_LM",
    r=work.rank,
    lora_alpha=work.alpha,
    target_modules=work.modules,
    fan_in_fan_out=True,
)
model = get_peft_model(model, config)
texts = [row["text"] + tokenizer.eos_token for row in read_rows(work.train)]
ids = tokenizer(texts, truncation=True, max_length=work.max_length)["input_ids"]
switches = {"bf16": True, "train_sampling_strategy": "group_by_length"} if tuned else {}
trainer = transformers.Trainer(
    model=model,
    args=transformers.TrainingArguments(**trainer_arguments(work), **switches),
    train_dataset=[{"input_ids": row, "attention_mask": [1] * len(row)} for row in ids],
    data_collator=transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False),
    callbacks=[step_teller()],
)
start = time.perf_counter()
trainer.train()
seconds = time.perf_counter() - start
model.save_pretrained(work.folder)
report("peft", train_seconds=seconds, settings="bf16, group_by_length" if tuned else "")
