"""What `compare` calls runs, and which validation score it shows."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from lora_tune.commands.compare import RunComparison, _name_runs, differences_table
from lora_tune.metrics.metric import ACCURACY


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        ({"/r/a/1": "a", "/r/b/1": "b"}, ["a", "b"]),
        ({"/r/a/0930": "a", "/r/a/0945": "a"}, ["a 0930", "a 0945"]),
        ({"/r/a/1": "a", "/r/b/1": "a"}, ["a a/1", "a b/1"]),
        ({"/r/a/1": "a", "/r/b/1": "b", "/r/b/2": "b"}, ["a 1", "b 1", "b 2"]),
    ],
)
def test_names_tell_runs_apart(runs, names):
    saved = [SimpleNamespace(folder=Path(path), name=name) for path, name in runs.items()]
    assert _name_runs(saved) == names


@pytest.mark.parametrize(("best_step", "score"), [(10, 0.9), (None, 0.8), (99, None)])
def test_the_validation_score_is_that_of_the_kept_step(best_step, score):
    evaluations = [{"step": 10, "accuracy": 0.9}, {"step": 20, "accuracy": 0.8}]
    run = SimpleNamespace(environment={"best_step": best_step}, evaluations=evaluations)
    comparison = RunComparison(ACCURACY, ["a"], [run], [], {})
    assert comparison.validation_score(run) == score
    run = SimpleNamespace(environment={}, evaluations=[])
    assert comparison.validation_score(run) is None


def test_the_keys_that_differ_are_shown():
    differences = {"lora.rank": [8, 4], "training.learning_rate": [2e-5, None]}
    comparison = RunComparison(ACCURACY, ["one", "two"], [], [], differences)
    lines = [line.split() for line in differences_table(comparison).splitlines()]
    assert lines[0] == ["recipe", "key", "one", "two"]
    assert lines[2:] == [["lora.rank", "8", "4"], ["training.learning_rate", "2e-05", "-"]]
    same = RunComparison(ACCURACY, ["one", "two"], [], [], {})
    assert differences_table(same) == "The recipes of these runs are the same."
