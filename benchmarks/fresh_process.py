"""A benchmark's module, run in a fresh process: nothing is cached, compiled or allocated yet."""

import json
import os
import subprocess
import sys
from typing import Any

from benchmarks.kept_output import ROOT


def run_module(module: str, *arguments: str) -> dict[str, Any]:
    """Run a module offline and without lora_tune's cache; exits with its stderr where it fails.

    Args:
        module: dotted name, under `benchmarks`.

    Returns:
        The JSON object on the last line that it printed.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "LORA_TUNE_CACHE": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{module} {' '.join(arguments)}: {done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
