"""How often the intervals contain the true value, by simulation: `make intervals`.

Simulates test sets on which one model is correct for 85 % of rows and another for 80 %, and both
are correct together more often than if they were independent; and test sets on which only a few
rows tell two models apart. Writes results/interval_coverage.md.
"""

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

from benchmarks.kept_output import RESULTS
from lora_tune.metrics.paired_comparison import compare_rows
from lora_tune.metrics.statistics import paired_interval, wilson_interval

# Shares of rows: both models correct, only the first, only the second.
BOTH, FIRST_ONLY, SECOND_ONLY = 0.75, 0.10, 0.05
TEST_SETS = 1000
SIZES = (200, 400, 1000)  # rows
# Test sets with few discordant rows: their mean number, and the shares that favor the first model.
FEW_TEST_SETS = 10_000
FEW_ROWS = 300
DISCORDANT = (1, 3, 5, 8, 11, 15, 18, 30)
FAVORING = (0.5, 0.7, 0.9, 1.0)


def simulate(rows: int, seed: int) -> list[object]:
    """Simulate test sets of so many rows.

    Returns:
        A row of the table: the size; how often Wilson's interval contained the first model's
        accuracy, and Tango's the difference; how often p < 0.05 for equal models.
    """
    random = np.random.default_rng(seed)
    wilson = tango = false_positives = 0
    for _ in tqdm(range(TEST_SETS), desc=f"{rows} rows", disable=None):
        uniform = random.random(rows)
        both = uniform < BOTH
        first = both | ((uniform >= BOTH) & (uniform < BOTH + FIRST_ONLY))
        second = both | (uniform >= 1 - SECOND_ONLY)
        low, high = wilson_interval(int(first.sum()), rows)
        wilson += low <= BOTH + FIRST_ONLY <= high
        low, high = paired_interval(
            int((first & ~second).sum()), int((second & ~first).sum()), rows
        )
        tango += low <= FIRST_ONLY - SECOND_ONLY <= high
        # Equal models: swap the two at random in each row.
        swapped = random.random(rows) < 0.5
        false_positives += compare_rows(
            np.where(swapped, second, first), np.where(swapped, first, second)
        ).is_significant
    shares = (wilson, tango, false_positives)
    return [rows, *(f"{share / TEST_SETS:.1%}" for share in shares)]


def simulate_few(discordant: int) -> list[object]:
    """Simulate test sets where on average so many rows are discordant.

    Returns:
        A row of the table: how often the interval of the difference contained it, for each share
        of the discordant rows that favors the first model.
    """
    random = np.random.default_rng(discordant)
    row: list[object] = [discordant]
    for favoring in FAVORING:
        first_only, second_only = np.array([favoring, 1 - favoring]) * discordant / FEW_ROWS
        chances = [first_only, second_only, 1 - first_only - second_only]
        counts = random.multinomial(FEW_ROWS, chances, FEW_TEST_SETS)
        drawn, times = np.unique(counts[:, :2], axis=0, return_counts=True)
        ends = [paired_interval(first, second, FEW_ROWS) for first, second in drawn.tolist()]
        is_covered = [low <= first_only - second_only <= high for low, high in ends]
        row.append(f"{np.average(is_covered, weights=times):.1%}")
    return row


def main() -> None:
    """Simulate, then write the page."""
    headers = ["test rows", "Wilson: accuracy", "Tango: difference", "p < 0.05 for equal models"]
    table = [simulate(rows, seed) for seed, rows in enumerate(SIZES)]
    text = tabulate(table, headers, "github", colalign=("right",) * 4, disable_numparse=True)
    few = tabulate(
        map(simulate_few, DISCORDANT),
        ["discordant rows, mean", *(f"{share:.0%} favor the first" for share in FAVORING)],
        "github",
        colalign=("right",) * (1 + len(FAVORING)),
        disable_numparse=True,
    )
    (RESULTS / "interval_coverage.md").write_text(
        f"Made by `make intervals`: how often a 95 % interval contains the true value, and how "
        f"often p < 0.05 where there is no difference, as shares of {TEST_SETS:,} simulated test "
        f"sets. Nominal values: 95 % and 5 %.\n\n{text}\n\n"
        f"Few discordant rows: how often the interval of a difference in accuracy contains it, "
        f"over {FEW_TEST_SETS:,} test sets of {FEW_ROWS} rows each. The interval is Tango's, "
        f"extended to 0 where McNemar's exact test is not significant.\n\n{few}\n"
    )
    print(text, few, sep="\n\n")


if __name__ == "__main__":
    main()
