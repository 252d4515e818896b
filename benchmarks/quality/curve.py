"""A recipe's learning curve on real rows: `make curve RECIPE=... ROWS=... DATA=FOLDER MORE=FILE`.

Writes three files of results/: <recipe>_curve.txt, the command and its verdict;
<recipe>_curve_baselines.txt, the comparison with the most rows; and <recipe>_curve.svg, the plot.
"""

import re
import sys
from pathlib import Path

from benchmarks.kept_output import RESULTS, run_lora_tune
from benchmarks.plots import standalone_svg

PATHS = ("Adapter: ", "Report: ", "Page: ")  # lines that name files of this machine


def main(recipe: str, rows: str, data: str, validation: str) -> None:
    """Run, then write what was printed.

    Args:
        rows: numbers of training rows, with commas between them.
        data: a folder with train and test rows.
        validation: a file of further rows, of which 300 select the epoch.
    """
    overrides = [
        f"data.source={data}",
        f"data.validation.file={validation}",
        "data.validation.samples=300",
    ]
    printed = run_lora_tune("curve", recipe, "--rows", rows, *overrides)
    lines = printed.replace(validation, "MORE").replace(data, "DATA").splitlines(keepends=True)
    last = lines.index(f"{int(rows.split(',')[-1]):,} rows:\n")
    *comparison, verdict = [line for line in lines[last:] if not line.startswith(PATHS)]
    settings = "data.source=DATA data.validation.file=MORE data.validation.samples=300"
    command = f"$ lora-tune curve {recipe} --rows {rows} {settings}\n...\n"
    (RESULTS / f"{recipe}_curve.txt").write_text(command + verdict)
    (RESULTS / f"{recipe}_curve_baselines.txt").write_text(
        command + "".join(comparison).rstrip() + "\n"
    )
    page = (Path("curves") / recipe / "curve.html").read_text()
    (plot,) = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    (RESULTS / f"{recipe}_curve.svg").write_text(standalone_svg(plot))


if __name__ == "__main__":
    main(*sys.argv[1:])
