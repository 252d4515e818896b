"""Train with and without the base's own dropout, three seeds of each: `make dropout`.

Says what `model.dropout` is worth, on rows that are nobody's test rows. Writes
results/base_dropout.md.
"""

import json
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from kept_output import RESULTS, lora_tune
from tabulate import tabulate

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SEEDS = [1, 2, 3]
WAYS = {"as in its configuration (0.1)": "null", "none": "0.0"}
VALIDATION = "data.test.split=validation"


def main(reviews: str, more: str, tweets: str, entities: str) -> None:
    """Train, compare, write.

    Args:
        reviews: a folder with IMDb's train rows.
        more: a file of further reviews, 1,000 of which are answered.
        tweets: a folder with train and validation rows of tweets about airlines.
        entities: a folder with train and validation rows of WNUT 2017.
    """
    works: dict[str, list[str]] = {
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
            VALIDATION,
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
            VALIDATION,
            "training.bf16=true",
            "training.num_train_epochs=3",
        ],
    }
    lines = [
        _train(name, words, way, value)
        for name, words in works.items()
        for way, value in WAYS.items()
    ]
    headers = ["rows", "dropout in the base", "metric", "mean", "deviation", "by seed", "seconds"]
    table = tabulate(lines, headers, tablefmt="github", disable_numparse=True)
    told = f"""\
Made by `make dropout DATA="REVIEWS MORE TWEETS ENTITIES"`: a MiniLM with LoRA, seeds
{", ".join(map(str, SEEDS))}; a tenth of the training rows chooses the epoch. Judged on other
reviews and on the validation rows of the other two, never on test rows. Seconds are of the first
seed's training, one run, and only indicative.

{table}
"""
    (RESULTS / "base_dropout.md").write_text(told)
    print(told)


def _train(name: str, words: list[str], way: str, value: str) -> list[str]:
    """Train with every seed; returns a row of the table."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        keys = [f"model.dropout={value}", f"seeds={json.dumps(SEEDS)}"]
        lora_tune("train", *words, *keys, "--output", str(folder))
        compared: dict[str, Any] = json.loads((folder / "comparison.json").read_text())
    scores = [seed["metrics"] for seed in compared["seeds"]]
    metric = "entity_f1" if "entity_f1" in scores[0] else "accuracy"
    found = [score[metric] for score in scores]
    by_seed = " ".join(f"{value:.3f}" for value in found)
    numbers = [f"{mean(found):.3f}", f"{stdev(found):.3f}", by_seed]
    return [name, way, metric.replace("_", " "), *numbers, f"{compared['train_seconds']:.0f}"]


if __name__ == "__main__":
    main(*sys.argv[1:])
