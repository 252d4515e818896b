import pytest

from benchmarks.quality.quality_page import Cell, find_worse, make_cells


def make_record(score, baseline, *, seed=1, data="imdb", interval=(-0.02, 0.02)):
    difference = score - baseline
    low, high = interval
    against = {"difference": difference, "interval": [difference + low, difference + high]}
    return {
        "data": data,
        "rows": 100,
        "seed": seed,
        "system": "lora",
        "lower_is_better": False,
        "results": {"tfidf": baseline, "majority": 0.5, "lora": score},
        "against": {"tfidf": against, "majority": against},
    }


def test_a_cell_is_the_mean_over_its_seeds():
    records = [make_record(0.8, 0.7), make_record(0.9, 0.7, seed=2)]
    old = make_record(0.6, 0.7) | {"system": "old_defaults", "results": {"lora": 0.6}}
    (cell,) = make_cells([*records, old])
    assert (cell.seeds, cell.best) == (2, "tfidf")
    assert cell.points == pytest.approx(15)
    assert cell.old_points == pytest.approx(20), "of the seed that both have"
    assert cell.p_value < 1e-6


def make_cell(points, p_value):
    return Cell("imdb", 100, 1, {}, "tfidf", points, None, p_value)


def test_only_worse_cells_that_holm_rejects_are_worse():
    worse, better, noise = make_cell(-5, 0.001), make_cell(5, 0.0001), make_cell(-2, 0.03)
    assert find_worse([noise, better, worse, make_cell(1, 0.9)]) == [worse]
    assert find_worse([noise]) == [noise]
