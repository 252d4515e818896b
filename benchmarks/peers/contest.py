"""One contestant of peers.py: its environment, its process, and how its result is evaluated."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.kept_output import ROOT
from benchmarks.peers.job import Job, read_rows

SCRIPTS = "benchmarks.peers.scripts"  # run as modules, from the project's root
TORCH = "torch==2.13.0"  # in every environment
Run = dict[str, Any]


@dataclass(frozen=True)
class Contestant:
    """One row of a table."""

    name: str
    script: str  # a module of SCRIPTS, and its arguments
    packages: str = ""  # of its own environment; empty: it runs in this one
    removed: str = ""  # dependencies that cannot be loaded with torch for CPUs

    @property
    def version(self) -> str:
        """Its version, where it does not get to report one."""
        return self.packages.split(" ")[0].replace("==", " ")


def make_environment(contestant: Contestant, environments: Path) -> str:
    """Install a contestant's packages, unless they are installed.

    Args:
        environments: the folder of all environments.

    Returns:
        The path of the Python that has them.

    Raises:
        CalledProcessError: pip failed.
    """
    if not contestant.packages:
        return sys.executable
    folder = environments.absolute() / contestant.script.split()[0]
    python, marker = str(folder / "bin" / "python"), folder / "ready"
    packages = f"{TORCH} {contestant.packages}"
    installed = packages + (f", without {contestant.removed}" if contestant.removed else "")
    if not marker.is_file() or marker.read_text() != installed:
        print(f"Installing {installed}", flush=True)
        pip = [python, "-m", "pip"]
        commands = [
            [sys.executable, "-m", "venv", str(folder)],
            [*pip, "install", "--quiet", "--no-cache-dir", *packages.split()],
        ]
        if contestant.removed:
            commands.append([*pip, "uninstall", "--quiet", "--yes", *contestant.removed.split()])
        for command in commands:
            subprocess.run(command, capture_output=True, text=True, check=True)
        marker.write_text(installed)
    return python


def describe_failed_installation(
    contestant: Contestant, error: subprocess.CalledProcessError
) -> Run:
    """Make the run of a contestant that could not be installed."""
    return {
        "version": contestant.version,
        "error": f"not installed: {_find_error(error.stderr)}",
    }


def run_contestant(contestant: Contestant, python: str, job: Job, limit: float) -> Run:
    """Run a contestant in its environment and evaluate its predictions or its adapter.

    Args:
        python: of its environment.
        limit: seconds.

    Returns:
        What it reported, `total_seconds` and `peak_memory_bytes`, and `correct` (test rows) or
        `loss` (nats per token); or `error`, where it failed.
    """
    run = watch_process(_command(python, job, *contestant.script.split()), limit)
    run = {"version": contestant.version} | run
    if "error" in run:
        return run
    predictions = run.pop("predictions", None)
    if predictions is None:
        return run | measure_loss(job, "adapted")
    pairs = zip(predictions, read_rows(job.test), strict=True)
    return run | {"correct": sum(predicted == row["label"] for predicted, row in pairs)}


def watch_process(command: Sequence[str], limit: float) -> Run:
    """Run a contestant's process; returns what it reported and used, or how it failed.

    Peak memory is that of the process and of the children that it waited for: getrusage(2).

    Args:
        limit: seconds, after which the process is killed.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=output,
            stderr=errors,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            start_new_session=True,
        )
        # Kills the process group: the process's children may outlive it.
        timer = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt:  # not delivered to another session
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            timer.cancel()
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        reported: Run = {}
        for line in output:
            if line.startswith('{"'):
                reported |= json.loads(line)
        stderr = errors.read()
    progress = reported.pop("progress", "the start")
    used = {"total_seconds": seconds, "peak_memory_bytes": 1024 * usage.ru_maxrss}
    if process.returncode == 0:
        return reported | used
    if process.returncode == -signal.SIGKILL and seconds >= limit:
        return used | {"error": f"not finished after {limit:g} s, at {progress}"}
    return used | {"error": f"failed at {progress}: {_find_error(stderr)}"}


def measure_loss(job: Job, *arguments: str) -> Run:
    """Measure the loss of the base model or, with `adapted`, of the saved adapter."""
    command = _command(sys.executable, job, "causal_loss", *arguments)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": f"its adapter failed: {_find_error(done.stderr)}"}
    return dict(json.loads(done.stdout))


def _command(python: str, job: Job, script: str, *arguments: str) -> list[str]:
    return [python, "-m", f"{SCRIPTS}.{script}", json.dumps(asdict(job)), *arguments]


def _find_error(text: str) -> str:
    """Find the line that says what went wrong: the last that names an error, else the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no message"]
    named = [line for line in lines if re.search(r"(?i)^(\[\w+\]: )?\S*(error|exception)\b", line)]
    return (named or lines)[-1]
