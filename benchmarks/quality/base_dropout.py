"""What dropout in the frozen base model is worth: `make dropout DATA="FOLDER FILE FOLDER FOLDER"`.

Trains with and without it (`model.dropout`), with three seeds each, and evaluates on rows that are
not used as test rows anywhere else. Writes results/base_dropout.md.
"""

import json
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from tabulate import tabulate

from benchmarks.kept_output import RESULTS, run_lora_tune

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SEEDS = [1, 2, 3]
DROPOUTS = {"as in its configuration (0.1)": "null", "none": "0.0"}
TEST_ON_VALIDATION = "data.test.split=validation"


def main(reviews: str, more: str, tweets: str, entities: str) -> None:
    """Train, then write the page.

    Args:
        reviews: a folder with IMDb's train rows.
        more: a file of further reviews, 1,000 of which serve as test rows.
        tweets: a folder with train and validation rows of tweets about airlines.
        entities: a folder with train and validation rows of WNUT 2017.
    """
    runs: dict[str, list[str]] = {
        "500 IMDb reviews": [
            "minilm_imdb_lora",
            f"data.source={reviews}",
            "data.train.samples=500",
            "data.max_length=128",
            "data.test.split=null",
            f"data.test.file={more}",
            "data.test.samples=1000",
        ],
        "1,000 tweets, 3 classes": [
            "minilm_imdb_lora",
            f"data.source={tweets}",
            "data.label=airline_sentiment",
            "data.labels=[negative,neutral,positive]",
            "data.train.samples=1000",
            TEST_ON_VALIDATION,
            "data.test.samples=null",
            "data.max_length=64",
            "examples=[]",
        ],
        "1,000 posts, entities": [
            "bert_wnut17_ner_lora",
            f"model.name={MINILM}",
            f"data.source={entities}",
            "data.text=words",
            "data.label=tags",
            "data.train.samples=1000",
            "data.labels=null",
            "data.validation.split=null",
            "data.validation.fraction=0.1",
            TEST_ON_VALIDATION,
            "training.bf16=true",
            "training.num_train_epochs=3",
        ],
    }
    rows = [
        [name, dropout, *_train([*arguments, f"model.dropout={value}"])]
        for name, arguments in runs.items()
        for dropout, value in DROPOUTS.items()
    ]
    headers = ["training rows", "dropout in the base model", "metric", "mean"]
    headers += ["standard deviation", "by seed", "training, s"]
    table = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    page = f"""\
Made by `make dropout DATA="REVIEWS MORE TWEETS ENTITIES"`: MiniLM with LoRA, seeds
{", ".join(map(str, SEEDS))}; a tenth of the training rows selects the epoch. Evaluated on further
reviews, and on the validation rows of the other two data sets, never on their test rows. Training
time is that of the first seed, one run, and indicative only.

{table}
"""
    (RESULTS / "base_dropout.md").write_text(page)
    print(page)


def _train(arguments: list[str]) -> list[str]:
    """Train with every seed; returns the cells of a row of the table from the metric on."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "run"
        seeds = f"seeds={json.dumps(SEEDS)}"
        run_lora_tune("train", *arguments, seeds, "--output", str(folder))
        comparison: dict[str, Any] = json.loads((folder / "comparison.json").read_text())
    metrics = [seed["metrics"] for seed in comparison["seeds"]]
    name = "entity_f1" if "entity_f1" in metrics[0] else "accuracy"
    values = [each[name] for each in metrics]
    return [
        name.replace("_", " "),
        f"{mean(values):.3f}",
        f"{stdev(values):.3f}",
        " ".join(f"{value:.3f}" for value in values),
        f"{comparison['train_seconds']:.0f}",
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
