"""Run a recipe on real rows and keep what it printed: `make results RECIPE=... DATA=FOLDER`.

Writes results/<name>.txt: the command, then its output, as `benchmarks/readme.py` shows it.
"""

import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def main(name: str, recipe: str, data: str, *overrides: str) -> None:
    """Run, show, write.

    Args:
        name: of the result.
        overrides: key=value, beside the data's source.
    """
    command = ["-m", "lora_tune", "train", recipe, f"data.source={data}", *overrides]
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
    shown = "".join(line for line in lines if not line.startswith(("Adapter: ", "Report: ")))
    words = " ".join(["data.source=DATA", *overrides])
    first = f'$ make train RECIPE={recipe} SET="{words}"\n'
    (RESULTS / f"{name}.txt").write_text(first + shown.rstrip() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
