"""What a run writes about rows, and that files of predictions are read again."""

import csv
import json
import shutil

import pytest
import yaml

from lora_tune.cli import main
from lora_tune.commands.evaluate import evaluate_adapter
from tests.integration.tasks.test_tasks import labeled_rows, rated_rows

KINDS = {
    "sequence_classification": [
        {"ticket": f"T-{i:03}", "text": f"the {word} thing {i}", "label": label}
        for i, (word, label) in enumerate([("dull", "01"), ("fine", "1")] * 20)
    ],
    "multi_label_classification": list(labeled_rows(40)),
    "sequence_regression": list(rated_rows(40)),
}


@pytest.fixture(scope="module")
def trained(run_tiny, tmp_path_factory):
    runs = {}

    def train(task):
        if task not in runs:
            folder = tmp_path_factory.mktemp("rows")
            lines = "".join(json.dumps(row) + "\n" for row in KINDS[task])
            (folder / "rows.jsonl").write_text(lines)
            data = {
                "source": str(folder / "rows.jsonl"),
                "labels": None,
                "test": {"fraction": 0.25},
            }
            if task == "sequence_classification":
                data["id"] = "ticket"
            runs[task] = run_tiny(data=data, **{"overrides": [f"task={task}"]}), folder
        return runs[task]

    return train


@pytest.mark.parametrize("task", KINDS)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_predictions_are_rows_again(trained, tmp_path, capsys, task, suffix):
    run, _ = trained(task)
    output = tmp_path / f"out.{suffix}"
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": row["text"]}) + "\n" for row in KINDS[task]))
    adapter = str(run / "adapter")
    assert main(["predict", adapter, "--input", str(texts), "--output", str(output)]) == 0
    compared = evaluate_adapter(adapter, data=output, show=lambda _: None)
    assert compared.test_rows == 40
    perfect = {"accuracy": 1, "micro_f1": 1, "mean_absolute_error": 0}
    metric = compared.metric
    assert compared.adapted[metric] == pytest.approx(perfect[metric], abs=1e-3)
    label = {"multi_label_classification": "labels", "sequence_regression": "value"}.get(task)
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["data"] |= {"source": str(output), "label": label or "label", "id": None}
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(recipe))
    capsys.readouterr()
    code = main(["data", str(tmp_path / "again.yaml")])
    captured = capsys.readouterr()
    # A tiny model may predict one class for all rows, of which nothing can be learned.
    assert code == 0 or "rows are labeled" in captured.err or "at least 2" in captured.err


def test_ids_are_in_predictions_and_errors(trained):
    run, _ = trained("sequence_classification")
    tickets = {row["text"]: row["ticket"] for row in KINDS["sequence_classification"]}
    rows = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 10
    for row in rows:
        assert row["id"] == f"T-{row['row']:03}"
    comparison = json.loads((run / "comparison.json").read_text())
    cases = comparison["error_cases"]
    for case in [*cases["fixed"], *cases["broken"], *cases["mistakes"]]:
        assert case["id"] == tickets[case["text"]]


def test_rows_that_the_adapter_was_trained_on_are_counted(trained, tmp_path):
    run, folder = trained("sequence_classification")
    rows = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    tested = {row["row"] for row in rows}
    lines = (folder / "rows.jsonl").read_text().splitlines(keepends=True)

    def warnings(adapter, numbers):
        (tmp_path / "some.jsonl").write_text("".join(lines[number] for number in numbers))
        return " ".join(
            evaluate_adapter(adapter, data=tmp_path / "some.jsonl", show=lambda _: None).warnings
        )

    every = range(40)
    assert "trained or selected on 30 of the 40 rows" in warnings(run / "adapter", every)
    assert "trained" not in warnings(run / "adapter", sorted(tested))
    moved = shutil.copytree(run / "adapter", tmp_path / "adapter")
    assert "may have been trained on rows of" in warnings(moved, sorted(tested))
    hashes = json.loads((run / "training_rows.json").read_text())
    assert [len(hashes[name]) for name in ("train", "validation")] == [22, 8]


def test_rows_as_read_are_written_to_csv(trained, tmp_path, capsys):
    run, _ = trained("sequence_classification")
    recipe = str(run / "recipe.yaml")
    assert main(["data", recipe, "--csv", str(tmp_path / "rows.csv")]) == 0
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    given = KINDS["sequence_classification"]
    assert sorted((row["id"], row["text"], row["label"]) for row in rows) == [
        (row["ticket"], row["text"], row["label"]) for row in given
    ]
