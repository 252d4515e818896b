"""One contestant of benchmarks/peers.py: its environment made, its process watched and judged."""

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

SCRIPTS = Path(__file__).parent / "peers"
sys.path.append(str(SCRIPTS))
from work import Work, read_rows  # noqa: E402

TORCH = "torch==2.13.0"  # of all environments, as in ours
Run = dict[str, Any]


@dataclass(frozen=True)
class Contestant:
    """One row of a table."""

    name: str
    script: str  # in benchmarks/peers, and its words
    packages: str = ""  # of an environment of its own; empty: in ours
    without: str = ""  # what these need and torch for CPUs cannot load, taken out again

    @property
    def words(self) -> list[str]:
        """The script's name, and what follows."""
        return self.script.split()

    @property
    def version(self) -> str:
        """What is known of it where it cannot say so itself."""
        return self.packages.split(" ")[0].replace("==", " ")


def make_environment(contestant: Contestant, environments: Path) -> str:
    """Install a contestant's packages, unless they are; returns the Python that has them.

    Args:
        environments: the folder of them.

    Raises:
        CalledProcessError: pip failed.
    """
    if not contestant.packages:
        return sys.executable
    folder = environments / contestant.words[0]
    python, ready = str(folder / "bin" / "python"), folder / "ready"
    packages = f"{TORCH} {contestant.packages}"
    told = f"{packages}, without {contestant.without or 'nothing'}"
    if not ready.is_file() or ready.read_text() != told:
        print(f"Installing {told}", flush=True)
        pip = [python, "-m", "pip"]
        commands = [
            [sys.executable, "-m", "venv", str(folder)],
            [*pip, "install", "--quiet", "--no-cache-dir", *packages.split()],
        ]
        if contestant.without:
            commands.append([*pip, "uninstall", "--quiet", "--yes", *contestant.without.split()])
        for command in commands:
            subprocess.run(command, capture_output=True, text=True, check=True)
        ready.write_text(told)
    return python


def find_fault(contestant: Contestant, error: subprocess.CalledProcessError) -> Run:
    """Say why a contestant could not be installed."""
    fault = f"does not install: {_last_line(error.stderr)}"
    return {"version": contestant.version, "error": fault}


def run_contestant(contestant: Contestant, python: str, work: Work, limit: float) -> Run:
    """Run a contestant in its environment, and judge what it answered or wrote.

    Args:
        python: of its environment.
        limit: seconds.

    Returns:
        What it reported, `total_seconds` and `peak_memory_bytes`, and `correct` (test rows) or
        `loss` (nats per token); where it failed, `error` says how.
    """
    run = watch_process(_command(python, work, *contestant.words), limit)
    run = {"version": contestant.version} | run
    if "error" in run:
        return run
    answers = run.pop("answers", None)
    if answers is None:
        return run | measure_loss(work, "adapted")
    pairs = zip(answers, read_rows(work.test), strict=True)
    return run | {"correct": sum(answer == row["label"] for answer, row in pairs)}


def watch_process(command: Sequence[str], limit: float) -> Run:
    """Run a contestant's process; returns what it reported and what it took, or how it failed.

    Peak memory is of the process and those that it waited for: getrusage(2).
    """
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(SCRIPTS.parents[1])}
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=output, stderr=errors, env=environment, start_new_session=True
        )
        # The group, for what it started may outlive it.
        timer = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt:  # which a session of its own does not hear
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            timer.cancel()
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        told: Run = {}
        for line in output:
            if line.startswith('{"'):
                told |= json.loads(line)
        trouble = errors.read()
    progress = told.pop("progress", "the start")
    took = {"total_seconds": seconds, "peak_memory_bytes": 1024 * usage.ru_maxrss}
    if process.returncode == 0:
        return told | took
    if process.returncode == -signal.SIGKILL and seconds >= limit:
        return took | {"error": f"not done after {limit:g} s, at {progress}"}
    return took | {"error": f"fails at {progress}: {_last_line(trouble)}"}


def measure_loss(work: Work, *words: str) -> Run:
    """Measure the loss of the base, or with `adapted` of a contestant's adapter, in ours."""
    command = _command(sys.executable, work, "causal_loss", *words)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": f"its adapter fails: {_last_line(done.stderr)}"}
    return dict(json.loads(done.stdout))


def _command(python: str, work: Work, script: str, *words: str) -> list[str]:
    return [python, str(SCRIPTS / f"{script}.py"), json.dumps(asdict(work)), *words]


def _last_line(text: str) -> str:
    """Find the line that says what went wrong: the last that names an error, else the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["without a word"]
    named = [line for line in lines if re.search(r"(?i)^(\[\w+\]: )?\S*(error|exception)\b", line)]
    return (named or lines)[-1]
