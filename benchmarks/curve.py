"""Draw a recipe's curve on real rows and keep what it printed: `make curve`.

Writes results/<recipe>_curve.txt, the command and what it printed of the most rows, and
results/<recipe>_curve.html, its page.
"""

import shutil
import sys
from pathlib import Path

from kept_output import RESULTS, lora_tune


def main(recipe: str, rows: str, data: str, validation: str) -> None:
    """Run, show, write.

    Args:
        data: a folder with train and test rows.
        validation: a file of further rows, of which 300 choose the epoch.
    """
    overrides = [f"data.source={data}", f"data.validation.file={validation}"]
    overrides += ["data.validation.samples=300"]
    printed = lora_tune("curve", recipe, "--rows", rows, *overrides)
    lines = printed.replace(validation, "MORE").replace(data, "DATA").splitlines(keepends=True)
    last = f"{int(rows.split(',')[-1]):,} rows:\n"
    shown = lines[lines.index(last) :]
    kept = "".join(line for line in shown if not line.startswith("Page: "))
    words = f"curve {recipe} --rows {rows} data.source=DATA data.validation.file=MORE"
    first = f"$ lora-tune {words} data.validation.samples=300\n...\n"
    (RESULTS / f"{recipe}_curve.txt").write_text(first + kept.rstrip() + "\n")
    shutil.copy(Path("curves") / recipe / "curve.html", RESULTS / f"{recipe}_curve.html")


if __name__ == "__main__":
    main(*sys.argv[1:])
