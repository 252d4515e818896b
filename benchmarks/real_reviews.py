"""Run a recipe on real rows and keep what it printed: `make results RECIPE=... DATA=FOLDER`.

Writes results/<recipe>.txt: the command, then its output, as `benchmarks/readme.py` shows it.
"""

import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def main(recipe: str, data: str) -> None:
    """Run, show, write."""
    command = ["-m", "lora_tune", "train", recipe, f"data.source={data}"]
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line.replace(data, "DATA"))
    if process.wait():
        sys.exit(process.returncode)
    shown = "".join(line for line in lines if not line.startswith("Adapter: "))
    first = f'$ make train RECIPE={recipe} SET="data.source=DATA"\n'
    (RESULTS / f"{recipe}.txt").write_text(first + shown.rstrip() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
