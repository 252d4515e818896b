"""Batches hold every row once, and rows of like length together."""

import numpy as np

from lora_tune.batching import batches_by_length


def test_every_row_once_longest_first():
    lengths = np.random.default_rng(0).integers(1, 99, size=101)
    batches = list(batches_by_length(lengths, 8))
    assert sorted(np.concatenate(batches)) == list(range(101))
    ordered = lengths[np.concatenate(batches)]
    assert (np.diff(ordered) <= 0).all()
    assert max(map(len, batches)) == 8
