"""Each task from a recipe to a saved adapter and back, on tiny models."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from lora_tune.artifacts.run_reader import read_run
from lora_tune.artifacts.saved_adapter import load_adapter
from lora_tune.cli import main
from lora_tune.commands.compare import compare_runs, write_run_comparison
from lora_tune.commands.curve import Curve, write_curve
from lora_tune.evaluation.predictor import Predictor
from lora_tune.tasks import make_task
from tests.chat_templates import HEADERS
from tests.conftest import ROOT
from tests.tiny import make_base

NAMES = ["Ann", "Bo", "Cleo", "Dan", "Eve", "Finn"]
PLACES = ["Rome", "Oslo", "Lima", "Bonn"]


def tagged_rows(count):
    for i in range(count):
        name, place = NAMES[i % len(NAMES)], PLACES[i % len(PLACES)]
        words = ["so", name, "Lee", "went", "to", place, "again", str(i)]
        tags = ["O", "B-person", "I-person", "O", "O", "B-place", "O", "O"]
        yield {"words": words, "tags": tags}


def text_rows(count):
    for i in range(count):
        yield {"text": f"Flight {i} was late, and nobody said why. {'Sorry! ' * (i % 3)}"}


def question_rows(count):
    for i in range(count):
        yield {"question": f"Is {i} even?", "answer": "Yes." if i % 2 == 0 else "No."}


def rated_rows(count):
    for i in range(count):
        stars = i % 5
        yield {"text": "good " * stars + "bad " * (4 - stars), "label": float(stars)}


def labeled_rows(count):
    kinds = ("food", "staff", "price")
    for i in range(count):
        names = [name for at, name in enumerate(kinds) if i >> at & 1]
        # Of similar length for every label: else the rows of a step would have one label.
        words = [f"the {name}" if name in names else "a thing" for name in kinds]
        yield {"text": f"number {i}: " + " ".join(words), "label": names}


CASES = {
    "sequence_regression": ("distilbert-base-uncased", rated_rows, {}, "good good good good"),
    "multi_label_classification": (
        "distilbert-base-uncased",
        labeled_rows,
        {"threshold": 0.4},
        "the staff the food",
    ),
    "token_classification": (
        "bert-base-cased",
        tagged_rows,
        {"text": "words", "label": "tags"},
        "So Ann Lee went to Rome again.",
    ),
    "causal_lm": ("gpt2", text_rows, {}, "Flight 7 was"),
    "causal_lm of prompts": (
        "gpt2",
        question_rows,
        {"prompt": "Q: {question}\nA: ", "completion": "{answer}"},
        "Is 3 even?",
    ),
    "causal_lm of chats": (
        "gpt2",
        question_rows,
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
        question_rows,
        {"prompt": "answer: {question}", "completion": "{answer}"},
        "answer: Is 3 even?",
    ),
    "seq2seq_lm with BART": (
        "bart",
        question_rows,
        {"prompt": "{question}", "completion": "{answer}"},
        "Is 3 even?",
    ),
}


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Train a tiny recipe of a case on the command line, once; returns the run directory."""
    runs = {}

    def train_case(case):
        if case not in runs:
            runs[case] = _train(case, tmp_path_factory.mktemp("task"))
        return runs[case]

    return train_case


@pytest.fixture(params=CASES)
def run(request, train):
    return train(request.param)


def _train(case, folder):
    base, rows, columns, example = CASES[case]
    for split, count in (("train", 48), ("validation", 12), ("test", 24)):
        lines = [json.dumps(row) + "\n" for row in rows(count)]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    data = {"source": str(folder), "validation": {"split": "validation"}, "max_length": 64}
    training = {"num_train_epochs": 20, "per_device_train_batch_size": 8, "learning_rate": 0.01}
    recipe = {
        "task": case.partition(" ")[0],
        "model": {"name": str(make_base(folder / "base", base)), "dropout": 0.0},
        "data": data | columns,
        "lora": {"dropout": 0.0},  # its random numbers may change with the code
        "training": training,
        "examples": [example],
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["train", str(folder / "tiny.yaml"), "--output", str(folder / "run")]) == 0
    return folder / "run"


def read(run):
    return json.loads((run / "comparison.json").read_text())


def test_it_learns_and_compares_itself_with_the_base_model(run):
    compared = read(run)
    assert compared["metric"] in compared["adapted"]
    against_base = next(c for c in compared["comparisons"] if c["name"] == "base")
    sign = -1 if compared["metric"] in ("perplexity", "mean_absolute_error") else 1
    assert sign * against_base["difference"] > 0
    assert against_base["p_value"] < 0.05
    assert against_base["verdict"].startswith("LoRA is better than the base model by")
    assert compared["difference"] == pytest.approx(against_base["difference"])
    low, high = (
        against_base["interval"] or [against_base["difference"]] * 2
    )  # none where all rows have the same difference
    assert low <= against_base["difference"] <= high
    rows = [json.loads(line) for line in (run / "predictions.jsonl").open()]
    assert len(rows) == compared["test_rows"] == 24
    assert {"row", "label", "base", "adapted"} <= rows[0].keys()
    assert (run / "report.html").read_text().count("<svg") >= 4


def test_the_reload_check_passes(run):
    assert read(run)["reload"]["rows"] == 24
    assert read(run)["reload"]["largest_logit_difference"] <= 1e-4


def test_predictions(run, tmp_path, capsys):
    example = read(run)["examples"][0]
    adapter = load_adapter(run / "adapter")
    (prediction,) = adapter.predict([example["text"]])
    assert prediction.describe() == example["adapted"]
    source, output = tmp_path / "given.jsonl", tmp_path / "out.csv"
    (column,) = adapter.preprocessor.columns
    source.write_text(json.dumps({column: example["text"]}) + f'\n{{"{column}": ""}}\n')
    words = ["predict", str(run / "adapter"), "--input", str(source), "--output", str(output)]
    assert main(words) == 2
    assert "row 1 (rows count from 0): found nothing" in capsys.readouterr().err
    kept = output.read_text().splitlines()
    assert kept[0].split(",")[1:] == adapter.task.prediction_columns(adapter.labels)
    assert main(["predict", str(run / "adapter"), "--text", example["text"]]) == 0
    shown = capsys.readouterr().out
    assert adapter.task.prediction_columns(adapter.labels)[0] in shown


def test_evaluate_gives_the_same_metrics(run, tmp_path):
    again = tmp_path / "again.json"
    assert main(["evaluate", str(run / "adapter"), "--output", str(again)]) == 0
    found, trained = json.loads(again.read_text()), read(run)
    for side in ("base", "adapted"):
        assert found[side] == pytest.approx(trained[side], rel=1e-5)


def test_a_merged_model_gives_the_same_predictions(run, tmp_path):
    assert main(["merge", str(run / "adapter"), "--output", str(tmp_path / "merged")]) == 0
    parity = json.loads((tmp_path / "merged" / "parity.json").read_text())
    assert parity["flipped_predictions"] == 0
    assert parity["largest_logit_difference"] < 1e-3
    assert parity["merged"] == pytest.approx(parity["unmerged"], rel=1e-4)


def test_the_cards_load_the_adapters_with_peft_alone(train):
    """One process for all, since it takes seconds to start."""
    codes = []
    for case in CASES:
        adapter = train(case) / "adapter"
        card = (adapter / "README.md").read_text()
        code = card.split("```python\n")[1].split("```")[0].replace("PATH-OR-REPO", str(adapter))
        codes.append(f"{code}\nprint(type(model).__name__, model.active_adapter)")
    check = "import sys; assert not any(n.startswith('lora_tune') for n in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*codes, check])],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(CASES)
    assert all(line.startswith("PeftModelFor") for line in lines)


def test_a_changed_adapter_is_refused(run, tmp_path, capsys):
    folder = shutil.copytree(run / "adapter", tmp_path / "adapter")
    weights = folder / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert main(["predict", str(folder), "--text", "Ann"]) == 2
    assert "adapter_model.safetensors" in capsys.readouterr().err


def test_a_prompt_longer_than_max_length_keeps_its_end(tmp_path, monkeypatch):
    """The text depends on the whole prompt, up to the model's own number of positions."""
    model = AutoModelForCausalLM.from_pretrained(make_base(tmp_path / "base", "gpt2"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base", model_max_length=32)
    tokenizer.pad_token = tokenizer.eos_token
    given = []
    generate = model.generate

    def record(**words):
        given.append(words)
        return generate(**words)

    monkeypatch.setattr(model, "generate", record)
    predictor = Predictor(model, tokenizer, make_task("causal_lm"), [])
    predictor.predict(["Q: " + "long " * 20 + "A: ", "x" * 5000])
    (words,) = given
    second, first = (  # the longest prompt comes first
        row[mask.bool()]
        for row, mask in zip(words["input_ids"], words["attention_mask"], strict=True)
    )
    assert tokenizer.decode(first) == "<|endoftext|>Q: " + "long " * 20 + "A: "
    assert len(second) + 64 == model.config.n_positions == 1024


@pytest.mark.parametrize("case", ["multi_label_classification", "sequence_regression"])
def test_a_merged_model_predicts_the_same_in_its_pipeline(train, case, tmp_path):
    """As its card says, with transformers alone."""
    from transformers import pipeline

    run = train(case)
    compared = read(run)
    assert main(["merge", str(run / "adapter"), "--output", str(tmp_path / "merged")]) == 0
    options = {"top_k": None} if compared["task"].startswith("multi") else {}
    text = compared["examples"][0]["text"]
    answer = pipeline("text-classification", str(tmp_path / "merged"), **options)(text)
    ours = load_adapter(run / "adapter").predict([text])[0].cells()
    if compared["task"].startswith("multi"):
        found = {f"p_{label['label']}": label["score"] for label in answer[0]}
        assert found == pytest.approx({k: v for k, v in ours.items() if k != "labels"}, abs=1e-4)
    else:
        assert answer[0]["score"] == pytest.approx(ours["value"], abs=1e-4)


def test_results_without_an_interval_are_plotted(run, tmp_path):
    """Where all rows have the same score, such as an F1 of 0 or 1."""
    folder = shutil.copytree(run, tmp_path / "run")
    compared = read(run)
    for result in compared["results"]:
        result["interval"] = None
    (folder / "comparison.json").write_text(json.dumps(compared))
    runs = [read_run(folder), read_run(folder)]
    write_curve(Curve([10, 20], runs, "said"), tmp_path / "curve.html")
    write_run_comparison(compare_runs([run, folder]), tmp_path / "compare.html")
    for page in ("curve", "compare"):
        assert "<svg" in (tmp_path / f"{page}.html").read_text()


def test_runs_without_counts_are_refused(run, tmp_path, capsys):
    folder = shutil.copytree(run, tmp_path / "old")
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").open()]
    lines = [json.dumps({k: v for k, v in row.items() if k != "counts"}) + "\n" for row in rows]
    (folder / "predictions.jsonl").write_text("".join(lines))
    assert main(["compare", str(run), str(folder), "--output", str(tmp_path / "page.html")]) == 2
    assert "written by another version of lora_tune" in capsys.readouterr().err
