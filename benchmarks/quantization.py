"""Train one recipe on its base in float32, in bfloat16, in 8 and in 4 bits: `make quantization`.

Each run has a process of its own, one after another; writes results/quantization.md.
"""

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kept_output import RESULTS, lora_tune
from tabulate import tabulate

from lora_tune.run_comparison import compare_runs

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
WAYS: dict[str, list[str]] = {
    "float32": [],
    "bfloat16": ["model.dtype=bfloat16"],
    "8bit": ["model.quantization=8bit"],
    "4bit": ["model.quantization=4bit"],
    "4bit, bfloat16": ["model.quantization=4bit", "model.dtype=bfloat16"],
}


@dataclass(frozen=True)
class Trained:
    """A finished run."""

    folder: Path

    def read(self, name: str) -> Any:
        """Read one of its JSON files."""
        return json.loads((self.folder / f"{name}.json").read_text())

    def rung(self, name: str) -> Any:
        """What a rung of its ladder scored."""
        rungs = self.read("comparison")["rungs"]
        return next(rung for rung in rungs if rung["rung"] == name)

    @property
    def seconds(self) -> float:
        """What training took."""
        return float(self.read("comparison")["train_seconds"])


def main(data: str, base: str) -> None:
    """Train, compare, write.

    Args:
        data: a folder with train, validation and test rows of tweets.
        base: a folder with a GPT-2.
    """
    with tempfile.TemporaryDirectory() as place:
        runs = {}
        for number, (way, keys) in enumerate(WAYS.items()):
            runs[way] = Trained(Path(place) / str(number))
            words = [f"model.name={base}", f"data.source={data}", *SETTINGS, *keys]
            lora_tune("train", RECIPE, *words, "--output", str(runs[way].folder))
        first = runs["float32"]
        rows = [_describe(way, run, first) for way, run in runs.items()]
        majority = first.rung("majority")["metrics"]["accuracy"]
        seconds, environment = first.seconds, first.read("environment")
        test_rows = first.read("comparison")["test_rows"]
    headers = ["base", "weights, MB", "peak memory, MB", "seconds", "accuracy", "95% interval"]
    table = tabulate(
        rows,
        [*headers, "against float32, points"],
        "github",
        colalign=("left", *["right"] * len(headers)),
        disable_numparse=True,
    )
    train = f"lora-tune train {RECIPE} model.name=BASE data.source=DATA {' '.join(SETTINGS)}"
    told = f"""\
Made by `make quantization DATA=DATA BASE={Path(base).name}`: for each row, in a process of its own,
`{train}` and what the row names.

{table}

{test_rows:,} test rows, the same for all; the majority class has {majority:.3f}. Where no
interval stands, too few rows were answered differently. Weights are those of the base and its head,
as loaded. Peak memory is all that the process held, libraries and rows
included. Seconds are shares of the {seconds:.0f} s that training took in float32, and only
indicative: other work ran beside. Threads: {environment["threads"]}, {environment["device_name"]}.
"""
    (RESULTS / "quantization.md").write_text(told)
    print(told)


def _describe(way: str, run: Trained, first: Trained) -> list[str]:
    """One row of the table."""
    compared, score = run.read("comparison"), run.rung("lora")
    weights = run.read("environment")["base_weights"]["loaded_bytes"]
    low, high = score["interval"]
    against = ""
    if run != first:
        (found,) = compare_runs([run.folder, first.folder]).pairs
        against = f"{100 * found.pair.difference:+.1f}"
        if found.pair.interval is not None:
            bounds = [f"{100 * bound:+.1f}" for bound in found.pair.interval]
            against += f" ({' to '.join(bounds)})"
    return [
        " ".join(WAYS[way]) or "float32",
        f"{weights / 1e6:.1f}",
        f"{compared['peak_memory_bytes'] / 1e6:,.0f}",
        f"{run.seconds / first.seconds:.2f}",
        f"{score['metrics']['accuracy']:.3f}",
        f"{low:.3f} to {high:.3f}",
        against,
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
