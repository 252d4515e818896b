"""Trainings whose length is automatic, and the choices that they make on validation rows."""

import json
import re
from types import SimpleNamespace

import pytest

from lora_tune.artifacts.saved_adapter import load_adapter
from lora_tune.tasks.multi_label_classification import MultiLabelClassification
from lora_tune.training.trainer import AdapterTrainer
from tests.integration.training.test_training import read_lines
from tests.tiny import reviews

QUICK = {"num_train_epochs": 2, "learning_rate": 0.01}


def write_rows(folder, labels, count=64):
    """Write reviews with labels that a function makes from their texts and labels."""
    folder.mkdir()
    for split, rows in (("train", count), ("test", 32)):
        texts, given = reviews(split)
        pairs = zip(texts[:rows], given[:rows], strict=True)
        lines = [json.dumps({"text": t, "label": labels(t, own)}) + "\n" for t, own in pairs]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return folder


def test_the_number_of_epochs_is_automatic(run_tiny, monkeypatch):
    monkeypatch.setattr("lora_tune.training.budget.FEWEST_STEPS", 20)
    monkeypatch.setattr("lora_tune.training.budget.STEPS_PER_LABEL", 1)
    folder = run_tiny(training={"num_train_epochs": None})
    history = read_lines(folder / "history.jsonl")
    assert history[-1]["step"] in range(20, 26)
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["best_step"] is None, "16 validation rows choose no epoch"
    card = (folder / "adapter" / "README.md").read_text()
    assert re.search(r"\| epochs, at most +\| 4 ", card)


def test_refit_trains_on_all_rows_for_the_chosen_steps(run_tiny, monkeypatch):
    trained = []

    def train(self, *arguments, **named):
        trained.append((len(self.train_dataset), self.args.max_steps))
        return own(self, *arguments, **named)

    own = AdapterTrainer.train
    monkeypatch.setattr(AdapterTrainer, "train", train)
    shown = []
    folder = run_tiny(
        training={"refit": True, "load_best_model_at_end": True, "num_train_epochs": 3},
        show=lambda text: shown.append(str(text)),
    )
    best = json.loads((folder / "environment.json").read_text())["best_step"]
    assert trained == [(48, -1), (64, best)]
    card = (folder / "adapter" / "README.md").read_text()
    assert re.search(rf"\| steps on train and validation rows +\| {best} ", card)
    note = f"trained again on train and validation for {best} steps"
    results = json.loads((folder / "comparison.json").read_text())["results"]
    assert note in [result["note"] for result in results if result["name"] == "lora"]
    assert any(f"for {best} steps" in text for text in shown)
    assert any(
        f"training on train and validation rows after {best} steps" in text for text in shown
    )


def test_the_threshold_is_chosen_saved_and_used(run_tiny, tmp_path):
    rows = write_rows(
        tmp_path / "rows",
        lambda text, _: [name for name in ("film", "too", "funny") if name in text.lower()],
    )
    folder = run_tiny(
        overrides=["task=multi_label_classification"],
        data={"source": str(rows), "labels": ["film", "too", "funny"]},
        training=QUICK,
    )
    manifest = json.loads((folder / "adapter" / "manifest.json").read_text())
    loaded = load_adapter(folder / "adapter")
    assert loaded.task.threshold == manifest["threshold"]
    texts = reviews("test")[0][:32]
    told = [row["predictions"]["lora"] for row in read_lines(folder / "predictions.jsonl")]
    assert [prediction.label for prediction in loaded.predict(texts)] == told


def test_refit_keeps_the_threshold_of_the_training_before(run_tiny, tmp_path, monkeypatch):
    """The second training has seen the validation rows, on which a threshold would be too high."""
    monkeypatch.setattr("lora_tune.data.splits.MIN_SELECTION_ROWS", 10)
    chosen, trainings = [], []

    def train(self, *arguments, **named):
        trainings.append(self)
        return own_train(self, *arguments, **named)

    def tune(self, outputs, split):
        task = own_tune(self, outputs, split)
        if self.tunes_threshold and split.rows.name == "validation":
            chosen.append((len(trainings), task.threshold))
        return task

    own_train, own_tune = AdapterTrainer.train, MultiLabelClassification.tune
    monkeypatch.setattr(AdapterTrainer, "train", train)
    monkeypatch.setattr(MultiLabelClassification, "tune", tune)
    rows = write_rows(tmp_path / "rows", lambda text, own: [own] if "film" in text else [])
    folder = run_tiny(
        overrides=["task=multi_label_classification"],
        data={"source": str(rows)},
        training=QUICK | {"refit": True},
    )
    manifest = json.loads((folder / "adapter" / "manifest.json").read_text())
    assert len(trainings) == 2
    assert (1, manifest["threshold"]) in chosen
    assert 2 not in [count for count, _ in chosen]


def test_a_threshold_of_the_recipe_is_kept(run_tiny, tmp_path):
    rows = write_rows(tmp_path / "rows", lambda text, own: [own])
    folder = run_tiny(
        overrides=["task=multi_label_classification"],
        data={"source": str(rows), "threshold": 0.7},
        training=QUICK,
    )
    assert load_adapter(folder / "adapter").task.threshold == 0.7


def test_numbers_are_learned_in_any_unit(run_tiny, tmp_path):
    """Prices in cents train as they do in millions, and are told in their own unit."""
    found = {}
    for unit in (1.0, 1e6):
        rows = write_rows(tmp_path / f"{unit:g}", lambda text, _, unit=unit: len(text) * unit)
        folder = run_tiny(
            "roberta-base",
            overrides=["task=sequence_regression"],
            data={"source": str(rows), "labels": None},
            training=QUICK,
        )
        history = read_lines(folder / "history.jsonl")
        comparison = json.loads((folder / "comparison.json").read_text())
        found[unit] = [
            comparison["adapted"]["mean_absolute_error"] / unit,
            history[-1]["train_loss"] / unit**2,
            history[-1]["validation_loss"] / unit**2,
        ]
    assert found[1e6] == pytest.approx(found[1.0], rel=1e-2)


def make_trainer(log, best_step, best_metric):
    state = SimpleNamespace(
        log_history=log, best_metric=best_metric, best_global_step=best_step, global_step=2
    )
    arguments = SimpleNamespace(
        metric_for_best_model="accuracy", greater_is_better=True, save_strategy="epoch"
    )
    trainer = AdapterTrainer.__new__(AdapterTrainer)
    trainer.state, trainer.args = state, arguments
    return trainer


@pytest.mark.parametrize(
    ("accuracy", "loss", "is_better"),
    [(0.8, 0.4, True), (0.8, 0.5, False), (0.8, 0.6, False), (0.9, 0.9, True), (0.7, 0.1, False)],
)
def test_of_equal_metrics_the_lower_loss_is_better(accuracy, loss, is_better):
    log = [{"step": 1, "eval_loss": 0.5, "eval_accuracy": 0.8}]
    trainer = make_trainer(log, best_step=1, best_metric=0.8)
    metrics = {"eval_accuracy": accuracy, "eval_loss": loss}
    assert trainer._determine_best_metric(metrics, None) is is_better
    assert trainer.state.best_global_step == (2 if is_better else 1)
