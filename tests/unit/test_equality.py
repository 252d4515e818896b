"""The benchmark of equality: what its page says of recorded trainings, and of batches."""

import json

import numpy as np
import pytest

from benchmarks.quality import equality_page
from benchmarks.quality.batch_mix import GROUPED, OWN, RANDOM, measure_batches


def record(side, seed, accuracy, *, end=0.5, data="tweets"):
    return {
        "data": data,
        "side": side,
        "seed": seed,
        "max_length": 64,
        "train_rows": 1000,
        "test_rows": 500,
        "steps": 6,
        "accuracy": accuracy,
        "test_loss": 1 - accuracy,
        "losses": [1.0, 1.0, 0.8, 0.8, end, end],
        "processor": "a processor",
        "versions": {"torch": "1", "peft": "2"},
    }


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Write the page of some trainings; returns its text."""

    def write(runs):
        orders = {RANDOM: {"padding": 0.4, "class_variance": 0.9}}
        batches = {"tweets": {"class_entropy": 0.9, "orders": orders}}
        exact = [
            record(f"exact: {side}", 1, 0.6) | {"logits": [[0.0, logit]]}
            for side, logit in (("Trainer", 1.0), ("lora_tune", 1.25))
        ]
        monkeypatch.setattr(equality_page, "RECORDS", tmp_path / "equality.json")
        monkeypatch.setattr(equality_page, "PAGE", tmp_path / "equality.md")
        equality_page.RECORDS.write_text(json.dumps({"runs": exact + runs, "batches": batches}))
        equality_page.write_page()
        return equality_page.PAGE.read_text()

    return write


def cells(page, start):
    """The cells of the only row of a table that begins with some cells."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines()]
    (found,) = [row for row in rows if row[: len(start)] == start]
    return found


def test_differences_are_those_of_runs_with_the_same_seed(page):
    grouped = "Trainer, group_by_length"
    runs = [record(grouped, seed, value) for seed, value in ((1, 0.70), (2, 0.80), (3, 0.75))]
    runs += [record("lora_tune", seed, value) for seed, value in ((2, 0.82), (1, 0.71), (4, 0.1))]
    text = page(runs)
    # Gaps 0.01 and 0.02; t(0.975, 1) = 12.706 times 0.00707 / sqrt(2), by hand.
    row = cells(text, ["tweets", "lora_tune, both grouped by length"])
    assert row[-3:-1] == ["2", "+0.015 (-0.049 to +0.079)"]
    assert cells(text, [grouped])[1:4] == ["3", "0.750 (0.700 to 0.800)", "0.700 0.800 0.750"]
    assert cells(text, ["lora_tune", "0"])[-1] == "0.2"  # of the same batches: losses, logits


def test_a_run_that_learned_nothing_is_counted(page):
    runs = [record("lora_tune", seed, 0.6, end=end) for seed, end in ((1, 0.5), (2, 0.88))]
    assert cells(page(runs), ["lora_tune", "2"])[-1] == "1"  # 0.88 is above 95 % of 0.9


def test_grouping_by_length_separates_classes_of_different_length():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, size=800)
    same = measure_batches(np.full(800, 9), labels, 16)
    for name in (RANDOM, GROUPED, OWN):
        assert same[name]["padding"] == 0
        assert same[name]["class_variance"] == pytest.approx(1, abs=0.1)
    apart = measure_batches(10 + 20 * labels, labels, 16)
    assert apart[RANDOM]["class_variance"] == pytest.approx(1, abs=0.1)
    for name in (GROUPED, OWN):  # nearly all batches have one class: 0.25 / (0.25 / 16)
        assert 14 < apart[name]["class_variance"] < 16
        assert apart[name]["padding"] < 0.05 < 0.3 < apart[RANDOM]["padding"]
