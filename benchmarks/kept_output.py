"""Where benchmarks keep what they found, what they ran on, and what a verb prints."""

import subprocess
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def name_processor(environment: dict[str, Any]) -> str:
    """Name what a benchmark ran on, of what lora_tune/environment.py describes."""
    return "{device_name}, {threads} threads, {bfloat16_units}".format(**environment)


def lora_tune(*words: str) -> str:
    """Run a verb; returns what it printed, or leaves with its exit code where it failed."""
    command = [sys.executable, "-m", "lora_tune", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    if process.wait():
        sys.exit(process.returncode)
    return "".join(lines)
