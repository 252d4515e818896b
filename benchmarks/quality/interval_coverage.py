"""How often the intervals contain the true value, by simulation: `make intervals`.

Simulates test sets on which one model is correct for 85 % of rows and another for 80 %, and both
are correct together more often than if they were independent. Writes results/interval_coverage.md.
"""

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

from benchmarks.kept_output import RESULTS
from lora_tune.metrics.paired_comparison import compare_rows
from lora_tune.metrics.statistics import wilson_interval

# Shares of rows: both models correct, only the first, only the second.
BOTH, FIRST_ONLY, SECOND_ONLY = 0.75, 0.10, 0.05
TEST_SETS = 1000
SIZES = (200, 400, 1000)  # rows


def simulate(rows: int, seed: int) -> list[object]:
    """Simulate test sets of so many rows.

    Returns:
        A row of the table: the size; how often Wilson's interval contained the first model's
        accuracy, and the BCa interval the difference; how often p < 0.05 for equal models.
    """
    random = np.random.default_rng(seed)
    wilson = bca = false_positives = 0
    for _ in tqdm(range(TEST_SETS), desc=f"{rows} rows", disable=None):
        uniform = random.random(rows)
        both = uniform < BOTH
        first = both | ((uniform >= BOTH) & (uniform < BOTH + FIRST_ONLY))
        second = both | (uniform >= 1 - SECOND_ONLY)
        low, high = wilson_interval(int(first.sum()), rows)
        wilson += low <= BOTH + FIRST_ONLY <= high
        interval = compare_rows(first, second).interval
        bca += interval is not None and interval[0] <= FIRST_ONLY - SECOND_ONLY <= interval[1]
        # Equal models: swap the two at random in each row.
        swapped = random.random(rows) < 0.5
        false_positives += compare_rows(
            np.where(swapped, second, first), np.where(swapped, first, second)
        ).is_significant
    shares = (wilson, bca, false_positives)
    return [rows, *(f"{share / TEST_SETS:.1%}" for share in shares)]


def main() -> None:
    """Simulate, then write the page."""
    headers = ["test rows", "Wilson: accuracy", "BCa: difference", "p < 0.05 for equal models"]
    table = [simulate(rows, seed) for seed, rows in enumerate(SIZES)]
    text = tabulate(table, headers, "github", colalign=("right",) * 4, disable_numparse=True)
    (RESULTS / "interval_coverage.md").write_text(
        f"Made by `make intervals`: how often a 95 % interval contains the true value, and how "
        f"often p < 0.05 where there is no difference, as shares of {TEST_SETS:,} simulated test "
        f"sets. Nominal values: 95 % and 5 %.\n\n{text}\n"
    )
    print(text)


if __name__ == "__main__":
    main()
