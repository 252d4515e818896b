"""The loss per token, on the test rows, of the base model or of a contestant's saved adapter.

In float32, for each text by itself and without special tokens: contestants add different ones.
"""

import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.peers.job import read_job, read_rows

job, adapted = read_job(), sys.argv[2:] == ["adapted"]
tokenizer = AutoTokenizer.from_pretrained(job.base)
model = AutoModelForCausalLM.from_pretrained(job.base)
model = (PeftModel.from_pretrained(model, job.folder) if adapted else model).eval()
total, tokens = 0.0, 0
for row in read_rows(job.test):
    ids = tokenizer(row["text"], add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        total += float(model(ids, labels=ids).loss) * (ids.shape[1] - 1)
    tokens += ids.shape[1] - 1
print(json.dumps({"loss": total / tokens}))
