"""An adapter used as its model card says: a fresh process with PEFT and transformers alone."""

import json
import subprocess
import sys

from tests.conftest import ROOT

SCRIPT = """
import json, sys
exec(sys.argv[1])
assert not any(name.startswith("lora_tune") for name in sys.modules)
import torch
model.eval()
predictions = []
for text in json.load(sys.stdin):
    with torch.no_grad():
        logits = model(**tokenizer(text, truncation=True, return_tensors="pt")).logits[0]
    if logits.ndim == 2:  # (tokens, classes) of a mean-pooled model
        logits = logits.mean(dim=0)
    predictions.append([model.config.id2label[int(logits.argmax())], logits.softmax(-1).tolist()])
print(json.dumps(predictions))
"""


def ask_plain_peft(card, texts, *, adapter="", environment=None):
    """Run a model card's snippet on texts.

    Args:
        adapter: replaces the card's PATH-OR-REPO.

    Returns:
        A label and probabilities for each text.
    """
    snippet = card.split("```python\n")[1].split("```")[0].replace("PATH-OR-REPO", str(adapter))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, snippet],
        input=json.dumps(texts),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
