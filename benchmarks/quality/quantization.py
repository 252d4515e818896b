"""What quantizing the base model costs and saves: `make quantization DATA=FOLDER BASE=FOLDER`.

Trains one recipe on its base model in float32, in bfloat16, in 8 and in 4 bits, each in a fresh
process, one after another. Writes results/quantization.md.
"""

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.kept_output import RESULTS, run_lora_tune
from lora_tune.commands.compare import compare_runs

RECIPE = "gpt2_tweets_lora"
SETTINGS = [
    "data.label=airline_sentiment",
    "data.train.samples=4000",
    "data.validation.split=validation",
    "data.validation.fraction=null",
    "data.validation.samples=500",
    "data.test.samples=null",
    "training.num_train_epochs=2",
    "training.per_device_train_batch_size=16",
    "training.gradient_accumulation_steps=1",
]
# By name in the table: further overrides. The first is what the others are compared with.
PRECISIONS: dict[str, list[str]] = {
    "float32": [],
    "model.dtype=bfloat16": ["model.dtype=bfloat16"],
    "model.quantization=8bit": ["model.quantization=8bit"],
    "model.quantization=4bit": ["model.quantization=4bit"],
    "model.quantization=4bit model.dtype=bfloat16": [
        "model.quantization=4bit",
        "model.dtype=bfloat16",
    ],
}


@dataclass(frozen=True)
class FinishedRun:
    """A run directory."""

    folder: Path

    def read(self, name: str) -> Any:
        """Read one of its JSON files."""
        return json.loads((self.folder / f"{name}.json").read_text())

    def result(self, name: str) -> Any:
        """Return the result of a system."""
        return next(r for r in self.read("comparison")["results"] if r["name"] == name)

    @property
    def train_seconds(self) -> float:
        """What training took."""
        return float(self.read("comparison")["train_seconds"])


def main(data: str, base: str) -> None:
    """Train, compare, then write the page.

    Args:
        data: a folder with train, validation and test rows of tweets about airlines.
        base: a folder with a GPT-2.
    """
    with tempfile.TemporaryDirectory() as parent:
        runs = {}
        for number, (name, overrides) in enumerate(PRECISIONS.items()):
            runs[name] = FinishedRun(Path(parent) / str(number))
            settings = [f"model.name={base}", f"data.source={data}", *SETTINGS, *overrides]
            run_lora_tune("train", RECIPE, *settings, "--output", str(runs[name].folder))
        reference = runs["float32"]
        rows = [_describe(name, run, reference) for name, run in runs.items()]
        majority = reference.result("majority")["metrics"]["accuracy"]
        seconds, environment = reference.train_seconds, reference.read("environment")
        test_rows = reference.read("comparison")["test_rows"]
    headers = ["base model", "weights, MB", "peak memory, MB", "relative training time"]
    headers += ["accuracy", "95% interval", "difference from float32, points (95% interval)"]
    table = tabulate(
        rows,
        headers,
        "github",
        colalign=("left", *["right"] * (len(headers) - 1)),
        disable_numparse=True,
    )
    train = f"lora-tune train {RECIPE} model.name=BASE data.source=DATA {' '.join(SETTINGS)}"
    page = f"""\
Made by `make quantization DATA=FOLDER BASE={Path(base).name}`: for each row, in a fresh process,
`{train}` with the overrides in the first column.

{table}

All are evaluated on the same {test_rows:,} test rows, of which {majority:.3f} have the majority
class. A difference has no interval where too few rows are predicted differently. Weights are those
of the base model and its head, as loaded. Peak memory is that of the whole process, libraries and
rows included. Training time is relative to the {seconds:.0f} s in float32, and indicative only:
other work ran on the machine. Threads: {environment["threads"]}, {environment["device_name"]}.
"""
    (RESULTS / "quantization.md").write_text(page)
    print(page)


def _describe(name: str, run: FinishedRun, reference: FinishedRun) -> list[str]:
    """Make a row of the table."""
    comparison, lora = run.read("comparison"), run.result("lora")
    weight_bytes = run.read("environment")["base_weights"]["loaded_bytes"]
    low, high = lora["interval"]
    return [
        name,
        f"{weight_bytes / 1e6:.1f}",
        f"{comparison['peak_memory_bytes'] / 1e6:,.0f}",
        f"{run.train_seconds / reference.train_seconds:.2f}",
        f"{lora['metrics']['accuracy']:.3f}",
        f"{low:.3f} to {high:.3f}",
        "" if run == reference else _describe_difference(run, reference),
    ]


def _describe_difference(run: FinishedRun, reference: FinishedRun) -> str:
    (compared,) = compare_runs([run.folder, reference.folder]).comparisons
    text = f"{100 * compared.paired.difference:+.1f}"
    if compared.paired.interval is None:
        return text
    bounds = [f"{100 * bound:+.1f}" for bound in compared.paired.interval]
    return f"{text} ({' to '.join(bounds)})"


if __name__ == "__main__":
    main(*sys.argv[1:])
