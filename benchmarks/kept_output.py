"""Run a verb, show what it prints while it prints it, and keep it."""

import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


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
