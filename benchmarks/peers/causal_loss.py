"""The loss per token of a saved adapter on the test rows, the same for all, in float32.

Each text by itself, from its second token on; without special tokens, which not all train alike.
"""

import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from work import read_rows, read_work

work, adapted = read_work(), sys.argv[2:] == ["adapted"]
tokenizer = AutoTokenizer.from_pretrained(work.base)
model = AutoModelForCausalLM.from_pretrained(work.base)
model = (PeftModel.from_pretrained(model, work.folder) if adapted else model).eval()
total, tokens = 0.0, 0
for row in read_rows(work.test):
    ids = tokenizer(row["text"], add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        total += float(model(ids, labels=ids).loss) * (ids.shape[1] - 1)
    tokens += ids.shape[1] - 1
print(json.dumps({"loss": total / tokens}))
