"""How often intervals hold the truth, by simulation: `make intervals`.

Test sets are drawn from a world where one model is right in 85 % of rows and another in 80 %, right
and wrong together more often than not; writes results/interval_coverage.md.
"""

from pathlib import Path

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

from lora_tune.pairs import compare_rows
from lora_tune.statistics import wilson_interval

RESULTS = Path(__file__).parent / "results"
BOTH, FIRST_ALONE, SECOND_ALONE = 0.75, 0.10, 0.05  # shares of rows that are right
TEST_SETS = 1000
SIZES = (200, 400, 1000)


def simulate(rows: int, seed: int) -> list[object]:
    """Draw test sets of so many rows; returns what share of the intervals held the truth."""
    random = np.random.default_rng(seed)
    wilson = bootstrap = false_alarms = 0
    for _ in tqdm(range(TEST_SETS), desc=f"{rows} rows"):
        chance = random.random(rows)
        both = chance < BOTH
        first = both | ((chance >= BOTH) & (chance < BOTH + FIRST_ALONE))
        second = both | (chance >= 1 - SECOND_ALONE)
        low, high = wilson_interval(int(first.sum()), rows)
        wilson += low <= BOTH + FIRST_ALONE <= high
        interval = compare_rows(first, second).interval
        bootstrap += interval is not None and (
            interval[0] <= FIRST_ALONE - SECOND_ALONE <= interval[1]
        )
        # And where neither is better: each discordant row is the first's or the second's by lot.
        swap = random.random(rows) < 0.5
        false_alarms += compare_rows(
            np.where(swap, second, first), np.where(swap, first, second)
        ).is_shown
    shares = (wilson, bootstrap, false_alarms)
    return [rows, *(f"{share / TEST_SETS:.1%}" for share in shares)]


def main() -> None:
    """Simulate, write."""
    headers = ["test rows", "Wilson, of an accuracy", "BCa, of a difference", "p < 0.05 by chance"]
    table = [simulate(rows, seed) for seed, rows in enumerate(SIZES)]
    text = tabulate(table, headers, "github", colalign=("right",) * 4, disable_numparse=True)
    note = f"Share of {TEST_SETS:,} simulated test sets (`make intervals`); nominal 95 % and 5 %."
    (RESULTS / "interval_coverage.md").write_text(f"{note}\n\n{text}\n")
    print(text)


if __name__ == "__main__":
    main()
