"""What an unchanged recipe takes on few rows, and beside a busy process.

Made by `make default-runs DATA=FOLDER`, which runs `lora-tune train` in fresh processes with empty
caches. Writes results/default_runs.md.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from tabulate import tabulate

from benchmarks.kept_output import RESULTS, name_processor
from benchmarks.quality.cells import write_recipe
from lora_tune.system.environment import describe_environment, find_device

SHORT_ROWS = ("airline_tweets", "banking10", "banking77", "goemotions", "reviews", "wnut17")
ROWS, TEST_ROWS = 240, 60  # of 300
SEED = 1


def main(folder: Path) -> None:
    """Run, then write the page.

    Args:
        folder: of the data sets.
    """
    rows = [[name, f"{_time_default_run(folder, name):.0f}"] for name in SHORT_ROWS]
    middle = median(float(seconds) for _, seconds in rows)
    with _occupied_core():
        default = _train("quickstart")
        single = _train("quickstart", threads=1)
    lines = [
        "# Default runs",
        "",
        f"Made by `make default-runs DATA=FOLDER` on {name_processor(_describe())}: seconds of "
        "`lora-tune train`, from the start of the process to the published run, with an empty "
        f"cache. {ROWS + TEST_ROWS} rows, a fifth for test; MiniLM; no key of the recipe is set "
        "but data, task, base model and seed.",
        "",
        tabulate(rows, ["data", "seconds"], tablefmt="github", disable_numparse=True),
        "",
        f"Median: {middle:.0f} s.",
        "",
        "The quickstart while another process occupies one core: "
        f"{default:.0f} s with the default number of threads, {single:.0f} s with "
        f"`OMP_NUM_THREADS=1`, a ratio of {default / single:.2f}.",
        "",
    ]
    (RESULTS / "default_runs.md").write_text("\n".join(lines), encoding="utf-8")


def _describe() -> dict[str, object]:
    return describe_environment(find_device())


def _time_default_run(folder: Path, name: str) -> float:
    """Train on few rows of a data set; returns seconds."""
    with tempfile.TemporaryDirectory() as place:
        recipe = write_recipe(folder, name, Path(place), rows=ROWS, seed=SEED, test_rows=TEST_ROWS)
        return _train(str(recipe))


def _train(recipe: str, *, threads: int | None = None) -> float:
    """Run `lora-tune train`; returns seconds.

    Args:
        threads: None for the default number.
    """
    with tempfile.TemporaryDirectory() as place:
        environment = os.environ | {"LORA_TUNE_CACHE": f"{place}/cache", "HF_HUB_OFFLINE": "1"}
        environment.pop("OMP_NUM_THREADS", None)
        if threads:
            environment["OMP_NUM_THREADS"] = str(threads)
        command = [sys.executable, "-m", "lora_tune", "train", recipe, "--output", f"{place}/run"]
        start = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(done.stderr)
    print(f"{recipe}: {seconds:.1f} s", flush=True)
    return seconds


@contextmanager
def _occupied_core() -> Iterator[None]:
    """Let a process that never waits run beside the block."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
