"""PEFT around a model in transformers.Trainer, as tutorials write it.

`tuned`: by its own switches; `still`: without dropout in the base, as lora_tune's recipe trains.
"""

import sys
import time

import transformers
from peft import LoraConfig, get_peft_model
from work import classify, encode, read_work, report, step_teller, trainer_arguments

# Of BERT's trunk; its head keeps its own.
WITHOUT_DROPOUT = {
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "classifier_dropout": 0.1,
}
work, ways = read_work(), sys.argv[2:]
transformers.set_seed(work.seed)
tokenizer = transformers.AutoTokenizer.from_pretrained(work.base)
model = transformers.AutoModelForSequenceClassification.from_pretrained(
    work.base, num_labels=2, **(WITHOUT_DROPOUT if "still" in ways else {})
)
config = LoraConfig(
    task_type="SEQ_CLS", r=work.rank, lora_alpha=work.alpha, target_modules=work.modules
)
model = get_peft_model(model, config)
tuned = {"bf16": True, "train_sampling_strategy": "group_by_length"}
switches = tuned if "tuned" in ways else {}
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
    settings=", ".join(
        [
            *(["bf16, group_by_length"] if switches else []),
            *(["no dropout"] if "still" in ways else []),
        ]
    ),
    answers=classify(trainer.accelerator.unwrap_model(model, False), tokenizer, work),
)
