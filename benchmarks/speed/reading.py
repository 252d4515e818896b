"""Reading and tokenizing a large csv file, compared with `datasets.map`: `make reading`.

The contestants run in turn, each in a fresh process, without a cache: `datasets` loads the csv and
maps the tokenizer over batches; lora_tune reads, labels and tokenizes the rows with the same
tokenizer and length. Writes results/reading.md.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tabulate import tabulate

from benchmarks.fresh_process import run_module
from benchmarks.kept_output import RESULTS, name_processor
from lora_tune.system.environment import describe_environment

ROUNDS = 3
ROWS = (50_000, 200_000)
WORDS, VOCABULARY = 60, 5_000  # of a row; different words in all
MAX_LENGTH = 128
DATASETS, OURS, WHOLE = "datasets.map", "lora_tune", "lora_tune, all of a run's data"
BASE = "sentence-transformers/all-MiniLM-L6-v2"


def main() -> None:
    """Measure, then write the page."""
    table = []
    with tempfile.TemporaryDirectory() as folder:
        for count in ROWS:
            path = _write_rows(Path(folder) / f"{count}.csv", count)
            found: dict[str, list[dict[str, float]]] = {DATASETS: [], OURS: [], WHOLE: []}
            for _ in range(ROUNDS):
                for name, runs in found.items():
                    runs.append(run_module("benchmarks.speed.reading", name, str(path)))
            for name, runs in found.items():
                ratios = [
                    own["seconds"] / other["seconds"]
                    for own, other in zip(runs, found[DATASETS], strict=True)
                ]
                table.append(
                    [
                        f"{count:,}",
                        name,
                        f"{median(run['seconds'] for run in runs):.1f}",
                        f"{median(ratios):.2f}",
                        f"{median(run['megabytes'] for run in runs):,.0f}",
                    ]
                )
    headers = ["rows", "", "seconds", "ratio of seconds", "peak memory above the libraries', MB"]
    processor = name_processor(describe_environment("cpu"))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    (RESULTS / "reading.md").write_text(
        f"Made by `make reading` at {commit.stdout.strip()}: a csv of {WORDS} words a row, "
        f"tokenized to at most {MAX_LENGTH} tokens; medians of {ROUNDS} rounds in which the "
        f"contestants run in turn.\n{processor}.\n\n"
        "The last line also labels, splits and checks the rows for duplicates and label leaks.\n\n"
        f"{tabulate(table, headers, tablefmt='github', disable_numparse=True)}\n"
    )


def measure(name: str, path: str) -> dict[str, float]:
    """Read and tokenize the rows; returns seconds and peak memory above that before, in MB."""
    import datasets

    from lora_tune.config.data import DataConfig, SplitConfig
    from lora_tune.config.model import ModelConfig
    from lora_tune.data.file_reader import read_file
    from lora_tune.data.labeling import read_rows
    from lora_tune.data.splits import load_data
    from lora_tune.data.token_cache import tokenize_rows
    from lora_tune.models.checkpoint import resolve_checkpoint
    from lora_tune.models.tokenizer import load_tokenizer
    from lora_tune.tasks import make_task

    datasets.disable_progress_bars()
    tenth = SplitConfig(fraction=0.1)
    config = DataConfig(source=path, max_length=MAX_LENGTH, test=tenth, validation=tenth)
    task = make_task("sequence_classification")
    model = ModelConfig(name=BASE)
    tokenizer = load_tokenizer(resolve_checkpoint(model, weights=False), model, data=config)
    tokenizer(["warm up"])
    before, start = _peak_memory(), time.perf_counter()
    if name == DATASETS:
        with tempfile.TemporaryDirectory() as folder:
            rows = datasets.load_dataset("csv", data_files=path, split="train", cache_dir=folder)
            rows.map(
                lambda batch: tokenizer(batch["text"], truncation=True, max_length=MAX_LENGTH),
                batched=True,
            )
    elif name == OURS:
        table = read_file(path).check()
        labeled = read_rows("data", table, config, task, labels=["neg", "pos"], origin=path)
        tokenize_rows(labeled, tokenizer, config, task)
    else:
        load_data(config, task, tokenizer)
    return {"seconds": time.perf_counter() - start, "megabytes": _peak_memory() - before}


def _peak_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _write_rows(path: Path, count: int) -> Path:
    source = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(source.choices(letters, k=source.randint(2, 9))) for _ in range(VOCABULARY)]
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label\n")
        for number in range(count):
            text = " ".join(source.choices(words, k=WORDS))
            file.write(f"{text},{'pos' if number % 2 else 'neg'}\n")
    return path


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(measure(*sys.argv[1:])))
    else:
        main()
