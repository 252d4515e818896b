"""AdapterHub's adapters: LoRA and its own head, in its own AdapterTrainer."""

import time

import adapters
import transformers
from work import classify, encode, read_work, report, step_teller, trainer_arguments

work = read_work()
transformers.set_seed(work.seed)
tokenizer = transformers.AutoTokenizer.from_pretrained(work.base)
model = adapters.AutoAdapterModel.from_pretrained(work.base)
model.add_classification_head("reviews", num_labels=2)
places = [name[0] for name in work.modules]  # "q" for query
config = adapters.LoRAConfig(r=work.rank, alpha=work.alpha, attn_matrices=places)
model.add_adapter("reviews", config=config)
model.train_adapter("reviews")
trainer = adapters.AdapterTrainer(
    model=model,
    args=transformers.TrainingArguments(**trainer_arguments(work), bf16=True, group_by_length=True),
    train_dataset=encode(tokenizer, work),
    data_collator=transformers.DataCollatorWithPadding(tokenizer),
    callbacks=[step_teller()],
)
start = time.perf_counter()
trainer.train()
seconds = time.perf_counter() - start
report(
    "adapters",
    train_seconds=seconds,
    settings="bf16, group_by_length",
    answers=classify(trainer.accelerator.unwrap_model(model, False), tokenizer, work),
)
