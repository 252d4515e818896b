"""Batches hold every row once, rows of similar length together, within the token budget."""

import math
from itertools import pairwise

import numpy as np
import pytest

from lora_tune.data.batching import StepBatches, batches_by_length


def draw(seed):
    """Make the batches of each process, for random lengths, sizes and process counts."""
    generator = np.random.default_rng(seed)
    processes = int(generator.integers(1, 5))
    lengths = generator.integers(1, 99, size=generator.integers(processes, 400))
    batch_size, accumulation = map(int, generator.integers(1, 7, size=2))
    return [
        StepBatches(lengths, batch_size, accumulation, seed=seed, processes=processes, process=p)
        for p in range(processes)
    ]


def steps(sides):
    """The rows of each optimizer step, as Trainer takes them from each process's batches."""
    batches = [list(side) for side in sides]
    for start in range(0, len(batches[0]), sides[0].accumulation):
        taken = [batch[start : start + sides[0].accumulation] for batch in batches]
        yield np.concatenate([rows for side in taken for rows in side])


def padded_tokens(batches, lengths):
    return sum(len(rows) * max(lengths[rows]) for rows in batches)


@pytest.mark.parametrize("seed", range(200))
def test_an_epoch_holds_every_row_once_in_steps_of_one_size(seed):
    sides = draw(seed)
    first, processes = sides[0], len(sides)
    size = first.batch_size * first.accumulation * processes
    assert {len(list(side)) for side in sides} == {len(first)}  # else processes wait forever
    assert all(rows for side in sides for rows in side)
    found = list(steps(sides))
    assert sorted(np.concatenate(found)) == list(range(len(first.lengths)))
    *full, last = map(len, found)
    assert set(full) <= {size}
    assert last < size + processes
    if processes == 1:
        assert last <= size
        assert max(map(len, first)) <= first.batch_size


@pytest.mark.parametrize("seed", range(20))
def test_an_epoch_is_reproducible_and_the_next_one_differs(seed):
    sides, again = draw(seed), draw(seed)
    first, second = list(steps(sides)), list(steps(again))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    together = {frozenset(rows.tolist()) for rows in first}
    for side in sides:
        side.set_epoch(1)
    if len(first) > 2:
        assert together != {frozenset(rows.tolist()) for rows in steps(sides)}


@pytest.mark.parametrize("count", [1000, 960])
def test_rows_of_similar_length_share_a_batch_and_the_longest_comes_first(count):
    generator = np.random.default_rng(0)
    lengths = np.minimum(generator.lognormal(4, 0.8, size=count).astype(int) + 1, 512)
    lengths[generator.integers(count)] = 513
    plain = generator.permutation(count).reshape(-1, 8)
    batches = StepBatches(lengths, 8, 1, seed=0)
    if count % 8 == 0:
        assert lengths[next(iter(batches))].max() == 513
    assert 1 - lengths.sum() / padded_tokens(batches, lengths) < 0.1
    assert 1 - lengths.sum() / padded_tokens(plain, lengths) > 0.4
    means = np.array([lengths[rows].mean() for rows in batches])
    assert 0.35 < (np.diff(means) < 0).mean() < 0.65  # in random order


@pytest.mark.parametrize("max_rows", [None, 3])
def test_a_budget_holds_except_for_a_row_that_exceeds_it(max_rows):
    lengths = np.random.default_rng(0).integers(1, 99, size=301)
    batches = list(batches_by_length(lengths, 90, max_rows))
    assert sorted(np.concatenate(batches)) == list(range(301))
    assert (np.diff(lengths[np.concatenate(batches)]) <= 0).all()
    for rows, after in pairwise(batches):
        assert len(rows) == 1 or len(rows) * lengths[rows].max() <= 90
        unused = 90 - len(rows) * lengths[rows].max()
        assert unused < lengths[rows].max() or len(rows) == max_rows, "another row would have fit"
        assert lengths[after].max() <= lengths[rows].min()
    assert max(map(len, batches)) == (max_rows or 14)


def test_without_a_budget_all_rows_form_one_batch():
    assert [rows.tolist() for rows in batches_by_length([3, 5, 4], math.inf)] == [[1, 2, 0]]
