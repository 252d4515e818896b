"""Adapters and run directories that lora_tune 0.1.0 wrote still load, and give the same numbers.

tests/data/v0_1_0 holds what 0.1.0 wrote: two runs of a classifier with different seeds and a run of
a language model, without their reports; base models and test rows; and, in expected.json, what
0.1.0 predicted and measured with them.
"""

import json
import shutil

import pytest

from lora_tune.artifacts.run_reader import read_run
from lora_tune.artifacts.saved_adapter import load_adapter
from lora_tune.cli import main
from tests.conftest import ROOT

OLD = ROOT / "tests" / "data" / "v0_1_0"
EXPECTED = json.loads((OLD / "expected.json").read_text(encoding="utf-8"))
CASES = {
    "run": ("base", "rows", EXPECTED["texts"]),
    "generation_run": ("generation_base", "generation_rows", EXPECTED["prompts"]),
}


@pytest.fixture(params=CASES)
def case(request):
    """Name, adapter, base model, test rows and inputs of an old run."""
    base, rows, inputs = CASES[request.param]
    name = request.param
    return name, OLD / name / "adapter", OLD / base, OLD / rows / "test.jsonl", inputs


def run(*words):
    assert main([str(word) for word in words]) == 0


def test_an_old_adapter_predicts_the_same(case, tmp_path):
    name, adapter, base, _, inputs = case
    rows = tmp_path / "rows.jsonl"
    (column,) = load_adapter(adapter, base=str(base)).preprocessor.columns
    rows.write_text("".join(json.dumps({column: text}) + "\n" for text in inputs))
    output = tmp_path / "predictions.jsonl"
    run("predict", adapter, "--base", base, "--input", rows, "--output", output)
    found = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    for row, expected in zip(found, EXPECTED["predict"][name], strict=True):
        if name == "generation_run":
            assert row["completion"] == expected["completion"]
            continue
        assert row["label"] == expected["label"]
        for label, probability in expected["probabilities"].items():
            assert row[f"p_{label}"] == pytest.approx(probability, abs=1e-4)


def test_an_old_adapter_is_evaluated_the_same(case, tmp_path):
    name, adapter, base, rows, _ = case
    output = tmp_path / "comparison.json"
    run("evaluate", adapter, "--base", base, "--data", rows, "--output", output)
    found, expected = json.loads(output.read_text()), EXPECTED["evaluate"][name]
    for key in ("task", "metric", "test_rows"):
        assert found[key] == expected[key]
    for side in ("base", "adapted"):
        assert found[side] == pytest.approx(expected[side], rel=1e-4)
    assert found["difference"] == pytest.approx(expected["difference"])
    # 0.1.0 computed it by another method.
    assert found["difference_interval"] == pytest.approx(expected["difference_interval"], abs=0.02)
    assert [result["name"] for result in found["results"]] == ["base", "lora"]


def test_an_old_adapter_is_merged_with_the_same_parity(case, tmp_path):
    name, adapter, base, rows, _ = case
    folder = tmp_path / "merged"
    run("merge", adapter, "--base", base, "--data", rows, "--output", folder)
    found = json.loads((folder / "parity.json").read_text())
    expected = EXPECTED["parity"][name]
    exact = [key for key, value in expected.items() if not isinstance(value, float)]
    assert {key: found[key] for key in exact} == {key: expected[key] for key in exact}
    assert found["flipped_predictions"] == 0
    assert found["largest_logit_difference"] < 1e-4
    for key in ("unmerged", "merged"):
        assert found[key] == pytest.approx(expected[key], rel=1e-4)


def test_old_runs_are_compared_the_same(tmp_path, capsys):
    page = tmp_path / "compare.html"
    run("compare", OLD / "run", OLD / "run_other_seed", "--output", page)
    shown, expected = capsys.readouterr().out, EXPECTED["compare"]
    rows, old_rows = ([row.split() for row in text.splitlines()[2:4]] for text in (shown, expected))
    assert [row[:6] + row[7:] for row in rows] == old_rows, "a column for validation was added"
    assert "(+0.0 points, p = 1.00)" in expected
    assert "(+0.0 points, 95% interval -28.0 to 28.0, p = 1.00)" in shown
    for text in (expected, shown):
        assert "40.4 points" in text
    assert "<svg" in page.read_text()


@pytest.mark.parametrize("name", [*CASES, "run_other_seed"])
def test_an_old_run_is_read_with_todays_names(name):
    saved = read_run(OLD / name)
    old = json.loads((OLD / name / "comparison.json").read_text())
    today = {"words": "tfidf", "head": "linear_probe"}
    names = [today.get(rung["rung"], rung["rung"]) for rung in old["rungs"]]
    assert [result["name"] for result in saved.comparison["results"]] == names
    assert [against["name"] for against in saved.comparison["comparisons"]] == names[:-1]
    assert saved.comparison["warnings"] == old["caveats"]
    assert saved.comparison["untrained_head"] == old["fresh_head"]
    rungs = {today.get(rung["rung"], rung["rung"]): rung for rung in old["rungs"]}
    for system in names:
        assert saved.score(system)["metrics"] == rungs[system]["metrics"]
        assert len(saved.counts(system)) == len(saved.predictions) == old["test_rows"]
        assert all(system in row["predictions"] for row in saved.predictions)


@pytest.mark.parametrize("name", CASES)
def test_the_report_of_an_old_run_is_written_with_todays_names(name, tmp_path, capsys):
    folder = shutil.copytree(OLD / name, tmp_path / "run")
    run("report", folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f"Report: {folder / 'report.html'}" in capsys.readouterr().out
    titles = {"run": ["majority class", "TF-IDF", "base model", "linear probe", "last layers"]}
    for title in [*titles.get(name, ["base model"]), "LoRA"]:
        assert title in page
    assert page.count("<svg") >= {"run": 6, "generation_run": 4}[name]
    for word in ("rung", "caveat", "fresh head"):  # the verdicts are sentences of the old run
        assert word not in page
