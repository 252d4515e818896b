"""Runs jobs in two processes of one thread each, and records each result as it comes."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

PROCESSES = 2


def run_jobs(
    jobs: Iterable[Any],
    run: Callable[..., dict[str, Any]],
    folder: Path,
    *,
    record: Path,
    minutes: float,
) -> list[dict[str, Any]]:
    """Run the jobs that are not recorded yet.

    Args:
        jobs: dataclasses, whose fields identify a record.
        run: a function of a module, which takes a job and the folder.
        folder: of the data sets.
        record: a JSON file with a list of records.
        minutes: after which no further job begins.

    Returns:
        All records.
    """
    records: list[dict[str, Any]] = json.loads(record.read_text()) if record.is_file() else []
    waiting = [job for job in jobs if not any(asdict(job).items() <= r.items() for r in records)]
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited by the processes
    start = time.monotonic()
    running: dict[Future[dict[str, Any]], Any] = {}
    failed = []
    with ProcessPoolExecutor(PROCESSES, get_context("spawn"), _prepare) as pool:
        while True:
            while waiting and len(running) < PROCESSES and not _is_over(start, minutes):
                job = waiting.pop(0)
                running[pool.submit(run, job, folder)] = job
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                if error := future.exception():
                    failed.append(job)
                    print(f"{job} failed: {error!r}", file=sys.stderr, flush=True)
                    continue
                records.append(asdict(job) | future.result())
                record.write_text(json.dumps(records, indent=1) + "\n")
                print(job, records[-1]["results"], f"{len(waiting)} jobs to go", flush=True)
    if failed:
        sys.exit(f"{len(failed)} jobs failed; the others are recorded")
    return records


def _is_over(start: float, minutes: float) -> bool:
    return time.monotonic() - start > 60 * minutes


def _prepare() -> None:
    from lora_tune.system.environment import keep_freed_memory, quiet_libraries

    keep_freed_memory()  # before torch allocates memory
    quiet_libraries()
