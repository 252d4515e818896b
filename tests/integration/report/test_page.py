"""The report of a run that lacks a part of the data for it."""

import pytest


@pytest.mark.parametrize(
    ("more", "missing", "plots"),
    [
        ({"data": {"test": {"file": "ONE"}}}, "roc", 7),
        ({"training": {"eval_strategy": "no", "load_best_model_at_end": False}}, "losses", 5),
        ({"training": {"logging_strategy": "no"}}, "losses", 7),
    ],
)
def test_a_report_leaves_out_what_a_run_lacks(run_tiny, rows, tmp_path, more, missing, plots):
    lines = (rows / "test.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "one.jsonl").write_text("".join(x for x in lines if '"positive"' in x))
    if "data" in more:
        more = {"data": {"test": {"file": str(tmp_path / "one.jsonl")}}}
    page = (run_tiny(report=True, **more) / "report.html").read_text()
    assert page.count("<svg") == plots
    titles = {"roc": "ROC curves, each class", "losses": "Training and validation loss."}
    assert titles[missing] not in page
