"""Where benchmarks keep results, and what a lora-tune command prints."""

import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"


def name_processor(environment: dict[str, Any]) -> str:
    """Name the processor that a benchmark ran on.

    Args:
        environment: what `lora_tune.system.environment.describe_environment` returned.
    """
    return "{device_name}, {threads} threads, {bfloat16_units}".format(**environment)


def run_lora_tune(*arguments: str) -> str:
    """Run a lora-tune command and show its output as it comes.

    Exits with the command's exit code where it fails.

    Returns:
        What it printed on stdout.
    """
    command = [sys.executable, "-m", "lora_tune", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    if process.wait():
        sys.exit(process.returncode)
    return "".join(lines)
