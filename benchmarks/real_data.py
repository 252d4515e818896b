"""Run a recipe, on rows of one's own where named, and keep what it printed: `make results`.

Writes results/<name>.txt: the command, then its output, as `benchmarks/readme.py` shows it.
"""

import sys

from kept_output import RESULTS, lora_tune


def main(name: str, recipe: str, data: str, *overrides: str) -> None:
    """Run, show, write.

    Args:
        name: of the result.
        data: stands for data.source; empty for the recipe's own.
        overrides: key=value.
    """
    words = [*([f"data.source={data}"] if data else []), *overrides]
    printed = lora_tune("train", recipe, *words)
    lines = (printed.replace(data, "DATA") if data else printed).splitlines(keepends=True)
    shown = "".join(line for line in lines if not line.startswith(("Adapter: ", "Report: ")))
    told = " ".join(words).replace(data, "DATA") if data else " ".join(words)
    first = f"$ make train RECIPE={recipe}" + (f' SET="{told}"' if told else "") + "\n"
    (RESULTS / f"{name}.txt").write_text(first + shown.rstrip() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
