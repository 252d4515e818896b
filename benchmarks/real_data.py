"""Run a recipe, on rows of one's own where named, and keep what it printed: `make results`.

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
        data: stands for data.source; empty for the recipe's own.
        overrides: key=value.
    """
    words = [*([f"data.source={data}"] if data else []), *overrides]
    command = ["-m", "lora_tune", "train", recipe, *words]
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line.replace(data, "DATA") if data else line)
    if process.wait():
        sys.exit(process.returncode)
    shown = "".join(line for line in lines if not line.startswith(("Adapter: ", "Report: ")))
    told = " ".join(words).replace(data, "DATA") if data else " ".join(words)
    first = f"$ make train RECIPE={recipe}" + (f' SET="{told}"' if told else "") + "\n"
    (RESULTS / f"{name}.txt").write_text(first + shown.rstrip() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
