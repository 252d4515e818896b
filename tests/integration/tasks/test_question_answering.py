"""Question answering from a recipe to a saved adapter and back, on a tiny model."""

import json
import random

import pytest
import yaml

from lora_tune.artifacts.saved_adapter import load_adapter
from lora_tune.cli import main
from lora_tune.lora.adapter import WEIGHTS_FILE

FILLERS = ["the", "film", "was", "and", "good", "it"]
MARKED = ["story", "actor", "scene", "plot", "script", "music"]
NO_DROPOUT = "bert-base-cased"  # in its head, as DistilBERT has
COLUMNS = {"text": "question", "text_pair": "context", "label": "answers", "labels": None}
EXAMPLE = {"question": "what is marked?", "context": "it was good and * plot and the film"}


def marked_rows(count, seed):
    """Rows whose answer is the word after a marker."""
    generator = random.Random(seed)
    for _ in range(count):
        words = generator.choices(FILLERS, k=generator.randrange(4, 9))
        answer, place = generator.choice(MARKED), generator.randrange(len(words))
        before = " ".join([*words[:place], "*"])
        context = " ".join([before, answer, *words[place:]])
        answers = {"text": [answer], "answer_start": [len(before) + 1]}
        yield {"question": EXAMPLE["question"], "context": context, "answers": answers}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    for seed, (split, count) in enumerate((("train", 40), ("validation", 10), ("test", 20))):
        lines = [json.dumps(row) + "\n" for row in marked_rows(count, seed)]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def train(run_tiny, folder):
    """Train a small recipe with some overrides; returns the run directory."""

    def train_with(*overrides, **options):
        columns = COLUMNS | {"source": str(folder), "validation": {"split": "validation"}}
        overrides = ["task=question_answering", f"examples=[{json.dumps(EXAMPLE)}]", *overrides]
        model, lora = {"dropout": 0.0}, {"dropout": 0.0}
        training = {"num_train_epochs": 10, "learning_rate": 0.01}
        return run_tiny(
            overrides=overrides, data=columns, model=model, lora=lora, training=training, **options
        )

    return train_with


@pytest.fixture(scope="module")
def run(train):
    return train(reload=True, report=True)


def read(run):
    return json.loads((run / "comparison.json").read_text())


def losses(run):
    lines = (run / "training_loss.jsonl").read_text().splitlines()
    return [json.loads(line)["train_loss"] for line in lines]


def test_it_finds_the_word_after_a_marker(run):
    compared = read(run)
    assert compared["metric"] == "f1"
    assert compared["adapted"]["f1"] > 0.8 > compared["base"]["f1"]
    assert compared["adapted"]["loss"] < 0.5 < compared["base"]["loss"]
    assert [result["name"] for result in compared["results"]] == ["base", "lora"]
    assert compared["untrained_head"]
    rows = list(map(json.loads, (run / "predictions.jsonl").read_text().splitlines()))
    found = [row["counts"]["lora"] for row in rows]
    assert sum(f1 for f1, *_ in found) / len(found) == pytest.approx(compared["adapted"]["f1"])
    assert any(row["label"] == row["adapted"] == "story" for row in rows)


def test_a_fresh_process_gives_the_same_logits(run):
    assert read(run)["reload"]["rows"] == 20
    assert read(run)["reload"]["largest_logit_difference"] <= 1e-4


def test_it_predicts_spans(run, tmp_path, capsys):
    adapter = load_adapter(run / "adapter")
    (answer,) = adapter.predict([EXAMPLE])
    start = EXAMPLE["context"].index("plot")
    assert (answer.text, answer.start, answer.end) == ("plot", start, start + 4)
    assert answer.describe() == read(run)["examples"][0]["adapted"]
    cells = [f"{column}={text}" for column, text in EXAMPLE.items()]
    assert main(["predict", str(run / "adapter"), "--row", *cells]) == 0
    head, _, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["answer", "start", "end", "probability", "text"]
    assert row.split()[:3] == ["plot", str(start), str(start + 4)]
    source, output = tmp_path / "given.jsonl", tmp_path / "found.jsonl"
    source.write_text(json.dumps(EXAMPLE) + '\n{"question": "what?", "context": ""}\n')
    words = ["predict", str(run / "adapter"), "--input", str(source), "--output", str(output)]
    assert main(words) == 2
    assert (
        "row 1 (rows count from 0): data.text_pair (context): found nothing"
        in capsys.readouterr().err
    )
    assert json.loads(output.read_text().splitlines()[0])["answer"] == "plot"


def test_evaluate_gives_the_same_metrics(run, tmp_path):
    path = tmp_path / "again.json"
    assert main(["evaluate", str(run / "adapter"), "--output", str(path)]) == 0
    found, trained = json.loads(path.read_text()), read(run)
    for side in ("base", "adapted"):
        assert found[side] == pytest.approx(trained[side], rel=1e-5)


def test_merging_changes_no_prediction(run, tmp_path):
    assert main(["merge", str(run / "adapter"), "--output", str(tmp_path / "merged")]) == 0
    parity = json.loads((tmp_path / "merged" / "parity.json").read_text())
    assert (parity["predictions"], parity["flipped_predictions"]) == (40, 0)
    assert parity["largest_logit_difference"] < 1e-3
    card = (tmp_path / "merged" / "README.md").read_text()
    assert "AutoModelForQuestionAnswering" in card


def test_its_card_and_report_are_written(run):
    card = (run / "adapter" / "README.md").read_text()
    assert "to answer questions with a span of a text" in card
    assert "--input rows.jsonl" in card
    metadata = yaml.safe_load(card.split("---")[1])
    results = metadata["model-index"][0]["results"][0]["metrics"]
    assert {result["type"]: result["value"] for result in results} == pytest.approx(
        read(run)["adapted"], abs=1e-4
    )
    assert (run / "report.html").read_text().count("<svg") >= 4


def test_runs_are_compared(run, train, tmp_path, capsys):
    other = train("training.num_train_epochs=1")
    page = tmp_path / "page.html"
    assert main(["compare", str(run), str(other), "--output", str(page)]) == 0
    assert "f1" in capsys.readouterr().out
    assert "<svg" in page.read_text()


def test_micro_batches_change_no_loss(train):
    """Of rows whose texts are of different lengths, each counts once."""
    whole = train("training.max_steps=5", base=NO_DROPOUT)
    options = ["per_device_train_batch_size=2", "gradient_accumulation_steps=4", "max_steps=5"]
    parts = train(*(f"training.{option}" for option in options), base=NO_DROPOUT)
    assert losses(whole) == pytest.approx(losses(parts), rel=1e-4)
    assert losses(whole)[0] == pytest.approx(2, abs=1), "a mean over rows, not over tokens"


@pytest.mark.parametrize("sampling", ["random", "group_by_length"])
def test_samplers_of_trainer_keep_the_labels(train, sampling):
    run = train(f"training.train_sampling_strategy={sampling}", "training.max_steps=2")
    assert len(losses(run)) == 2


def test_speed_ups_change_nothing(train):
    options = ["lora.layers_to_transform=[1]", "training.max_steps=8"]
    plain, fast = (
        train(*options, f"training.fast={fast}", base=NO_DROPOUT) for fast in ("false", "true")
    )
    assert losses(fast) == pytest.approx(losses(plain), rel=1e-4)
    assert read(fast)["adapted"] == pytest.approx(read(plain)["adapted"], rel=1e-4)
    assert (fast / "adapter" / WEIGHTS_FILE).stat().st_size == (
        plain / "adapter" / WEIGHTS_FILE
    ).stat().st_size
