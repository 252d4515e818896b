"""Finished runs are read back, those of 0.1.0 with today's names."""

import json

import pytest

from lora_tune.artifacts.run_reader import read_run
from lora_tune.errors import ArtifactError


def write_run(folder, comparison, predictions):
    """Write the files of a run directory that are read."""
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter/manifest.json").write_text('{"recipe_name": "mine"}')
    (folder / "recipe.yaml").write_text("data: {}\n")
    (folder / "comparison.json").write_text(json.dumps(comparison))
    for name in ("data", "environment"):
        (folder / f"{name}.json").write_text("{}")
    for name in ("history", "training_loss"):
        (folder / f"{name}.jsonl").write_text('{"epoch": 1.0}\n')
    lines = "".join(json.dumps(row) + "\n" for row in predictions)
    (folder / "predictions.jsonl").write_text(lines)
    return folder


def current_run():
    """The comparison and the predictions of a run, with today's names."""
    comparison = {
        "task": "sequence_classification",
        "test_rows": 1,
        "results": [{"name": "tfidf", "metrics": {"accuracy": 1.0}}, {"name": "linear_probe"}],
        "comparisons": [
            {"name": "tfidf", "minimum_detectable_difference": 0.1},
            {"name": "linear_probe"},
        ],
        "best_baseline": "tfidf",
        "untrained_head": True,
        "groups": [],
        "warnings": ["Classes are imbalanced."],
        "recommendation": "",
        "error_analysis": {"classes": []},
        "error_cases": {"against": "tfidf", "fixed": []},
    }
    row = {
        "row": 0,
        "predictions": {"tfidf": "a"},
        "counts": {"tfidf": [1, 1], "linear_probe": [0, 1]},
    }
    return comparison, [row]


def test_a_run_of_0_1_0_has_todays_names(tmp_path):
    old = {
        "task": "sequence_classification",
        "test_rows": 1,
        "rungs": [{"rung": "words", "metrics": {"accuracy": 1.0}}, {"rung": "head"}],
        "pairs": [{"rung": "words", "smallest_difference": 0.1}, {"rung": "head"}],
        "best_cheap": "words",
        "fresh_head": True,
        "parts": [],
        "caveats": ["Classes are imbalanced."],
        "diagnosis": {"classes": []},
        "cases": {"against": "words", "fixed": []},
    }
    row = {"row": 0, "rungs": {"words": "a"}, "counts": {"words": [1, 1], "head": [0, 1]}}
    comparison, predictions = current_run()
    run = read_run(write_run(tmp_path / "old", old, [row]))
    assert run.comparison == comparison
    assert run.predictions == predictions
    assert run.counts("linear_probe").tolist() == [[0, 1]]
    assert run.score("tfidf")["metrics"] == {"accuracy": 1.0}
    assert run.score("full") is None


def test_words_of_a_tagging_run_of_0_1_0_are_most_frequent_tags(tmp_path):
    old = {"task": "token_classification", "test_rows": 1, "best_cheap": "words"}
    old |= {"rungs": [{"rung": "words"}], "pairs": [{"rung": "words"}]}
    rows = [{"rungs": {"words": "none"}, "counts": {"words": [1, 0, 0]}}]
    run = read_run(write_run(tmp_path / "old", old, rows))
    assert run.comparison["best_baseline"] == "most_frequent_tag"
    assert run.counts("most_frequent_tag").tolist() == [[1, 0, 0]]


def test_a_run_of_today_is_read_unchanged(tmp_path):
    comparison, predictions = current_run()
    run = read_run(write_run(tmp_path / "run", comparison, predictions))
    assert (run.name, run.recipe) == ("mine", "data: {}\n")
    assert run.comparison == comparison
    assert run.predictions == predictions
    assert run.evaluations == run.steps == [{"epoch": 1.0}]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda run: (run / "comparison.json").unlink(), "has no comparison.json"),
        (lambda run: (run / "comparison.json").write_text("{"), "is damaged: Expecting property"),
        (lambda run: (run / "comparison.json").write_text("{}"), "is damaged: 'task'"),
        (lambda run: (run / "predictions.jsonl").write_text(""), "has 0 rows, expected 1"),
        (lambda run: (run / "recipe.yaml").unlink(), "recipe.yaml: No such file or directory"),
    ],
)
def test_an_incomplete_run_is_reported_in_one_line(tmp_path, damage, words):
    run = write_run(tmp_path / "run", *current_run())
    damage(run)
    with pytest.raises(ArtifactError) as caught:
        read_run(run)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_system_that_a_run_lacks_is_named(tmp_path):
    run = read_run(write_run(tmp_path / "run", *current_run()))
    with pytest.raises(ArtifactError, match="lacks 'full'"):
        run.counts("full")
