"""Merge the quickstart's adapters and keep what was printed: `make parity`.

Trains the quickstart twice, on its base as it is and on its base in 4 bits, then merges; writes
results/parity.txt: each command, then its output.
"""

import tempfile
from pathlib import Path

from kept_output import RESULTS, lora_tune

MERGES = [
    ("runs/quickstart/latest/adapter", "merged", "float32"),
    ("runs/quickstart/latest/adapter", "merged-bf16", "bfloat16"),
    ("runs/quickstart-4bit/adapter", "merged-4bit", "float32"),
]


def main() -> None:
    """Train, merge, write."""
    with tempfile.TemporaryDirectory() as place:
        four_bit = Path(place) / "run"
        lora_tune("train", "quickstart")
        lora_tune("train", "quickstart", "model.quantization=4bit", "--output", str(four_bit))
        parts = []
        for adapter, name, dtype in MERGES:
            option = "" if dtype == "float32" else f" --dtype {dtype}"
            real = adapter.replace("runs/quickstart-4bit", str(four_bit))
            output = str(Path(place) / name)
            shown = lora_tune("merge", real, "--output", output, "--dtype", dtype)
            table = shown.partition("\n\nModel:")[0]
            parts.append(f"$ lora-tune merge {adapter} --output {name}{option}\n{table}\n")
    train = '$ make train RECIPE=quickstart SET="model.quantization=4bit --output ..."'
    parts.insert(2, train.replace("...", "runs/quickstart-4bit") + "\n")
    (RESULTS / "parity.txt").write_text("\n".join(parts))


if __name__ == "__main__":
    main()
