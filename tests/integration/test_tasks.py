"""Each task from a recipe to a saved adapter and back, on tiny models."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from lora_tune.cli import main
from lora_tune.curve import Curve, write_curve
from lora_tune.finished_run import read_run
from lora_tune.predictor import Predictor, load_adapter
from lora_tune.recipe import TRAINING_DEFAULTS
from lora_tune.run_comparison import compare_runs, write_run_comparison
from lora_tune.tasks import find_task
from lora_tune.training import make_arguments
from tests.chat_templates import HEADERS
from tests.conftest import ROOT
from tests.tiny import make_base

NAMES = ["Ann", "Bo", "Cleo", "Dan", "Eve", "Finn"]
PLACES = ["Rome", "Oslo", "Lima", "Bonn"]


def tagged(count):
    for i in range(count):
        name, place = NAMES[i % len(NAMES)], PLACES[i % len(PLACES)]
        words = ["so", name, "Lee", "went", "to", place, "again", str(i)]
        tags = ["O", "B-person", "I-person", "O", "O", "B-place", "O", "O"]
        yield {"words": words, "tags": tags}


def written(count):
    for i in range(count):
        yield {"text": f"Flight {i} was late, and nobody said why. {'Sorry! ' * (i % 3)}"}


def asked(count):
    for i in range(count):
        yield {"question": f"Is {i} even?", "answer": "Yes." if i % 2 == 0 else "No."}


def rated(count):
    for i in range(count):
        stars = i % 5
        yield {"text": "good " * stars + "bad " * (4 - stars), "label": float(stars)}


def labelled(count):
    kinds = ("food", "staff", "price")
    for i in range(count):
        names = [name for at, name in enumerate(kinds) if i >> at & 1]
        # Of like length, whatever the label: else a step's rows would be of one label.
        words = [f"the {name}" if name in names else "a thing" for name in kinds]
        yield {"text": f"number {i}: " + " ".join(words), "label": names}


CASES = {
    "sequence_regression": ("distilbert-base-uncased", rated, {}, "good good good good"),
    "multi_label_classification": (
        "distilbert-base-uncased",
        labelled,
        {"threshold": 0.4},
        "the staff the food",
    ),
    "token_classification": (
        "bert-base-cased",
        tagged,
        {"text": "words", "label": "tags"},
        "So Ann Lee went to Rome again.",
    ),
    "causal_lm": ("gpt2", written, {}, "Flight 7 was"),
    "causal_lm of prompts": (
        "gpt2",
        asked,
        {"prompt": "Q: {question}\nA: ", "completion": "{answer}"},
        "Is 3 even?",
    ),
    "causal_lm of chats": (
        "gpt2",
        asked,
        {
            "prompt": "{question}",
            "completion": "{answer}",
            "chat_template": HEADERS,
            "system": "Be brief.",
        },
        "Is 3 even?",
    ),
    "seq2seq_lm with T5": (
        "google/flan-t5-base",
        asked,
        {"prompt": "answer: {question}", "completion": "{answer}"},
        "answer: Is 3 even?",
    ),
    "seq2seq_lm with BART": (
        "bart",
        asked,
        {"prompt": "{question}", "completion": "{answer}"},
        "Is 3 even?",
    ),
}


@pytest.fixture(scope="module", params=CASES)
def run(request, tmp_path_factory):
    """Train a tiny recipe of each task by the command line."""
    base, rows, columns, example = CASES[request.param]
    folder = tmp_path_factory.mktemp("task")
    for split, count in (("train", 48), ("validation", 12), ("test", 24)):
        lines = [json.dumps(row) + "\n" for row in rows(count)]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    data = {"source": str(folder), "validation": {"split": "validation"}, "max_length": 64}
    training = {"num_train_epochs": 20, "per_device_train_batch_size": 8, "learning_rate": 0.01}
    recipe = {
        "task": request.param.partition(" ")[0],
        "model": {"name": str(make_base(folder / "base", base)), "dropout": 0.0},
        "data": data | columns,
        "lora": {"dropout": 0.0},  # whose draws may change with the code
        "training": training,
        "examples": [example],
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["train", str(folder / "tiny.yaml"), "--output", str(folder / "run")]) == 0
    return folder / "run"


def read(run):
    return json.loads((run / "comparison.json").read_text())


def test_it_learns_and_says_what_the_rows_allow(run):
    compared = read(run)
    assert compared["metric"] in compared["adapted"]
    pair = next(pair for pair in compared["pairs"] if pair["rung"] == "base")
    sign = -1 if compared["metric"] in ("perplexity", "mean_absolute_error") else 1
    assert sign * pair["difference"] > 0
    assert pair["p_value"] < 0.05
    assert pair["verdict"].startswith("LoRA is better than the base by")
    assert compared["difference"] == pytest.approx(pair["difference"])
    low, high = pair["interval"] or [pair["difference"]] * 2  # none where every row says the same
    assert low <= pair["difference"] <= high
    rows = [json.loads(line) for line in (run / "predictions.jsonl").open()]
    assert len(rows) == compared["test_rows"] == 24
    assert {"row", "label", "base", "adapted"} <= rows[0].keys()
    assert (run / "report.html").read_text().count("<svg") >= 4


def test_a_fresh_process_answers_alike(run):
    assert read(run)["reload"]["rows"] == 24
    assert read(run)["reload"]["largest_logit_difference"] <= 1e-4


def test_predictions(run, tmp_path, capsys):
    example = read(run)["examples"][0]
    adapter = load_adapter(run / "adapter")
    (answer,) = adapter.predict([example["text"]])
    assert answer.tell() == example["adapted"]
    source, output = tmp_path / "given.jsonl", tmp_path / "out.csv"
    (column,) = adapter.intake.columns
    source.write_text(json.dumps({column: example["text"]}) + f'\n{{"{column}": ""}}\n')
    words = ["predict", str(run / "adapter"), "--input", str(source), "--output", str(output)]
    assert main(words) == 2
    assert "row 1 (rows count from 0): found nothing" in capsys.readouterr().err
    kept = output.read_text().splitlines()
    assert kept[0].split(",")[1:] == adapter.task.cell_names(adapter.labels)
    assert main(["predict", str(run / "adapter"), "--text", example["text"]]) == 0
    shown = capsys.readouterr().out
    assert adapter.task.cell_names(adapter.labels)[0] in shown


def test_evaluate_gives_the_same_figures(run, tmp_path):
    again = tmp_path / "again.json"
    assert main(["evaluate", str(run / "adapter"), "--output", str(again)]) == 0
    found, trained = json.loads(again.read_text()), read(run)
    for side in ("base", "adapted"):
        assert found[side] == pytest.approx(trained[side], rel=1e-5)


def test_merged_it_answers_alike(run, tmp_path):
    assert main(["merge", str(run / "adapter"), "--output", str(tmp_path / "merged")]) == 0
    parity = json.loads((tmp_path / "merged" / "parity.json").read_text())
    assert parity["flipped_predictions"] == 0
    assert parity["largest_logit_difference"] < 1e-3
    assert parity["merged"] == pytest.approx(parity["unmerged"], rel=1e-4)


def test_the_card_loads_it_by_peft_alone(run):
    card = (run / "adapter" / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0]
    code = code.replace("PATH-OR-REPO", str(run / "adapter"))
    check = "import sys; assert not any(n.startswith('lora_tune') for n in sys.modules)"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{code}\n{check}\nprint(type(model).__name__, model.active_adapter)",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("PeftModelFor")


def test_a_changed_adapter_is_refused(run, tmp_path, capsys):
    folder = shutil.copytree(run / "adapter", tmp_path / "adapter")
    weights = folder / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert main(["predict", str(folder), "--text", "Ann"]) == 2
    assert "adapter_model.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "metric", "greater"),
    [
        ("sequence_regression", "rmse", False),
        ("sequence_regression", "pearson", True),
        ("causal_lm", "bits_per_byte", False),
        ("causal_lm", None, False),
        ("token_classification", None, True),
        ("sequence_classification", "loss", False),
    ],
)
def test_the_best_checkpoint_is_the_best(tmp_path, task, metric, greater):
    training = TRAINING_DEFAULTS | {"metric_for_best_model": metric}
    arguments = make_arguments(training, task=find_task(task), checkpoints=tmp_path)
    assert arguments.greater_is_better is greater


def test_a_prompt_longer_than_the_rows_were_keeps_its_end(tmp_path, monkeypatch):
    """What is written depends on the prompt whole, up to the model's own positions."""
    model = AutoModelForCausalLM.from_pretrained(make_base(tmp_path / "base", "gpt2"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base", model_max_length=32)
    tokenizer.pad_token = tokenizer.eos_token
    given = []
    generate = model.generate

    def record(**words):
        given.append(words)
        return generate(**words)

    monkeypatch.setattr(model, "generate", record)
    predictor = Predictor(model, tokenizer, find_task("causal_lm"), [])
    predictor.predict(["Q: " + "long " * 20 + "A: ", "x" * 5000])
    (words,) = given
    second, first = (  # the longest is written after first
        row[mask.bool()]
        for row, mask in zip(words["input_ids"], words["attention_mask"], strict=True)
    )
    assert tokenizer.decode(first) == "<|endoftext|>Q: " + "long " * 20 + "A: "
    assert len(second) + 64 == model.config.n_positions == 1024


@pytest.mark.parametrize(
    "run", ["multi_label_classification", "sequence_regression"], indirect=True
)
def test_a_merged_model_answers_rightly_in_its_pipeline(run, tmp_path):
    """As its card says, by transformers alone."""
    from transformers import pipeline

    compared = read(run)
    assert main(["merge", str(run / "adapter"), "--output", str(tmp_path / "merged")]) == 0
    options = {"top_k": None} if compared["task"].startswith("multi") else {}
    text = compared["examples"][0]["text"]
    answer = pipeline("text-classification", str(tmp_path / "merged"), **options)(text)
    ours = load_adapter(run / "adapter").predict([text])[0].cells()
    if compared["task"].startswith("multi"):
        told = {f"p_{found['label']}": found["score"] for found in answer[0]}
        assert told == pytest.approx({k: v for k, v in ours.items() if k != "labels"}, abs=1e-4)
    else:
        assert answer[0]["score"] == pytest.approx(ours["value"], abs=1e-4)


def test_rungs_without_an_interval_are_drawn(run, tmp_path):
    """Where all rows say the same: F1 is 0 or 1."""
    folder = shutil.copytree(run, tmp_path / "run")
    compared = read(run)
    for rung in compared["rungs"]:
        rung["interval"] = None
    (folder / "comparison.json").write_text(json.dumps(compared))
    runs = [read_run(folder), read_run(folder)]
    write_curve(Curve([10, 20], runs, "said"), tmp_path / "curve.html")
    write_run_comparison(compare_runs([run, folder]), tmp_path / "compare.html")
    for page in ("curve", "compare"):
        assert "<svg" in (tmp_path / f"{page}.html").read_text()


def test_runs_written_before_are_told_so(run, tmp_path, capsys):
    folder = shutil.copytree(run, tmp_path / "old")
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").open()]
    lines = [json.dumps({k: v for k, v in row.items() if k != "counts"}) + "\n" for row in rows]
    (folder / "predictions.jsonl").write_text("".join(lines))
    assert main(["compare", str(run), str(folder), "--output", str(tmp_path / "page.html")]) == 2
    assert "written by another version of lora_tune" in capsys.readouterr().err
