"""What merging an adapter into its base model changes: `make parity`.

Trains the quickstart on its base model in float32 and in 4 bits, and merges both adapters. Writes
results/parity.txt: each command, then its output.
"""

import tempfile
from pathlib import Path

from benchmarks.kept_output import RESULTS, run_lora_tune

FOUR_BIT_RUN = "runs/quickstart-4bit"  # as the result names it
# Adapter, output folder, dtype.
MERGES = [
    ("runs/quickstart/latest/adapter", "merged", "float32"),
    ("runs/quickstart/latest/adapter", "merged-bf16", "bfloat16"),
    (f"{FOUR_BIT_RUN}/adapter", "merged-4bit", "float32"),
]


def main() -> None:
    """Train, merge, then write what was printed."""
    with tempfile.TemporaryDirectory() as folder:
        four_bit_run = str(Path(folder) / "run")
        run_lora_tune("train", "quickstart")
        run_lora_tune("train", "quickstart", "model.quantization=4bit", "--output", four_bit_run)
        parts = []
        for adapter, name, dtype in MERGES:
            option = "" if dtype == "float32" else f" --dtype {dtype}"
            path = adapter.replace(FOUR_BIT_RUN, four_bit_run)
            output = str(Path(folder) / name)
            printed = run_lora_tune("merge", path, "--output", output, "--dtype", dtype)
            table = printed.partition("\n\nModel:")[0]
            parts.append(f"$ lora-tune merge {adapter} --output {name}{option}\n{table}\n")
    settings = f"model.quantization=4bit --output {FOUR_BIT_RUN}"
    parts.insert(2, f'$ make train RECIPE=quickstart SET="{settings}"\n')
    (RESULTS / "parity.txt").write_text("\n".join(parts))


if __name__ == "__main__":
    main()
