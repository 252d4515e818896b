"""What a recipe prints on real rows: `make results NAME=... RECIPE=... [DATA=FOLDER] [SET=...]`.

Writes results/<name>.txt: the command, then its output.
"""

import sys

from benchmarks.kept_output import RESULTS, run_lora_tune

PATHS = ("Adapter: ", "Report: ")  # lines that name files of this machine


def main(name: str, recipe: str, data: str, *overrides: str) -> None:
    """Train, then write what was printed.

    Args:
        name: of the result.
        data: the value of data.source, DATA in the result; empty for the recipe's own.
        overrides: `key=value`.
    """
    arguments = [*([f"data.source={data}"] if data else []), *overrides]
    printed = run_lora_tune("train", recipe, *arguments)
    settings = " ".join(arguments)
    if data:
        printed, settings = printed.replace(data, "DATA"), settings.replace(data, "DATA")
    lines = [line for line in printed.splitlines() if not line.startswith(PATHS)]
    command = f"$ make train RECIPE={recipe}" + (f' SET="{settings}"' if settings else "")
    (RESULTS / f"{name}.txt").write_text("\n".join([command, *lines]).rstrip() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
