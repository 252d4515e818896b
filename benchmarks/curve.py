"""Draw a recipe's curve on real rows and keep what it printed: `make curve`.

Writes results/<recipe>_curve.txt, the command and its verdict; <recipe>_curve_ladder.txt, what it
printed of the most rows; and <recipe>_curve.svg, its picture.
"""

import re
import sys
from pathlib import Path

from kept_output import RESULTS, lora_tune
from pictures import stand_alone


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
    last = lines.index(f"{int(rows.split(',')[-1]):,} rows:\n")
    places = ("Adapter: ", "Report: ", "Page: ")
    *ladder, verdict = [line for line in lines[last:] if not line.startswith(places)]
    words = f"curve {recipe} --rows {rows} data.source=DATA data.validation.file=MORE"
    first = f"$ lora-tune {words} data.validation.samples=300\n...\n"
    (RESULTS / f"{recipe}_curve.txt").write_text(first + verdict)
    (RESULTS / f"{recipe}_curve_ladder.txt").write_text(first + "".join(ladder).rstrip() + "\n")
    page = (Path("curves") / recipe / "curve.html").read_text()
    (picture,) = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    (RESULTS / f"{recipe}_curve.svg").write_text(stand_alone(picture))


if __name__ == "__main__":
    main(*sys.argv[1:])
