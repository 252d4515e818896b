"""What holds for every training run, seen on tiny models."""

import ast
import html
import json
import re

import numpy as np
import pytest
import torch
from markdown_it import MarkdownIt
from transformers import AttentionInterface

from lora_tune.batching import make_collator
from lora_tune.data import load_data
from lora_tune.errors import DataError, LoraTuneError
from lora_tune.evaluation import evaluate_model
from lora_tune.predictor import load_adapter
from lora_tune.recipe_file import load_recipe
from lora_tune.tasks import find_task


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def weights(folder):
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def plain(run_tiny):
    return run_tiny()


def test_the_same_seed_gives_the_same_bytes(run_tiny, plain):
    again = run_tiny()
    for name in ("adapter_model.safetensors", "adapter_config.json", "labels.json"):
        assert (again / "adapter" / name).read_bytes() == (plain / "adapter" / name).read_bytes()
    assert read_lines(again / "history.jsonl") == read_lines(plain / "history.jsonl")


def test_another_seed_gives_another_adapter(run_tiny, plain):
    assert weights(run_tiny(training={"seed": 7})) != weights(plain)


def test_four_rows_at_once_or_one_by_one_is_the_same_step(run_tiny):
    from safetensors.torch import load_file

    def train(batch, steps):
        folder = run_tiny(
            base="gpt2",  # its head has no dropout of its own
            lora={"dropout": 0.0},
            model={"dropout": 0.0},
            training={
                "per_device_train_batch_size": batch,
                "gradient_accumulation_steps": steps,
                "train_sampling_strategy": "sequential",
                "optim": "sgd",  # Adam divides rounding by rounding where gradients vanish
                "learning_rate": 0.1,
                "max_grad_norm": 0,  # clipping would hide a wrong scale
            },
        )
        return load_file(folder / "adapter" / "adapter_model.safetensors")

    whole, parts, larger = train(4, 1), train(1, 4), train(8, 1)
    for name, tensor in whole.items():
        assert torch.allclose(parts[name], tensor, atol=1e-5), name
    assert any(not torch.allclose(larger[name], t, atol=1e-5) for name, t in whole.items())


@pytest.mark.parametrize(
    ("metric", "column", "best_of", "learning_rate"),
    [("loss", "validation_loss", min, 0.03), (None, "accuracy", max, 0.03)],
)
def test_the_best_epoch_is_kept(run_tiny, metric, column, best_of, learning_rate):
    folder = run_tiny(
        lora={"dropout": 0.0},  # whose draws may change with the code
        training={
            "num_train_epochs": 6,
            "learning_rate": learning_rate,
            "metric_for_best_model": metric,
        },
    )
    history = read_lines(folder / "history.jsonl")
    best = best_of(history, key=lambda row: row[column])
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["best_step"] == best["step"]
    assert best["step"] != history[-1]["step"], "choose numbers that overfit"

    loaded = load_adapter(folder / "adapter")
    task = find_task("sequence_classification")
    data = load_data(load_recipe(str(folder / "recipe.yaml")).data, task, loaded.tokenizer)
    collate = make_collator(loaded.tokenizer, loaded.task, loaded.model)
    again = evaluate_model(loaded.model, data.validation, task=task, collate=collate, title="")
    assert again.metrics["loss"] == pytest.approx(best["validation_loss"], abs=1e-6)


def test_early_stopping_stops_early_if_asked(run_tiny):
    folder = run_tiny(
        training={
            "num_train_epochs": 30,
            "learning_rate": 0.05,
            "early_stopping_patience": 2,
            "metric_for_best_model": "loss",
        }
    )
    history = read_lines(folder / "history.jsonl")
    losses = [row["validation_loss"] for row in history]
    assert len(losses) < 30
    assert np.argmin(losses) == len(losses) - 3


def test_a_diverged_loss_is_said_and_nothing_is_published(run_tiny, monkeypatch):
    with pytest.raises(LoraTuneError, match=r"training: (eval_)?loss is (nan|inf) at step"):
        run_tiny(training={"learning_rate": 1e30, "max_grad_norm": 0.0, "optim": "sgd"})


@pytest.mark.parametrize(("bf16", "room"), [(True, "fused_lora"), (False, "merged_lora")])
def test_layers_that_stand_in_are_gone_when_training_fails(run_tiny, monkeypatch, bf16, room):
    seen = []

    def fail(model, *_, **__):
        seen.append(model)
        forwards = [vars(module).get("forward") for module in model.modules()]
        assert f"lora_tune.fast.{room}" in {getattr(f, "__module__", None) for f in forwards}
        assert AttentionInterface()["sdpa"] is not own
        raise ZeroDivisionError

    own = AttentionInterface()["sdpa"]
    monkeypatch.setattr("lora_tune.adapter_trainer.evaluate_model", fail)
    with pytest.raises(ZeroDivisionError):
        run_tiny(base="bert-base-cased", training={"bf16": bf16})
    assert AttentionInterface()["sdpa"] is own
    inner = seen[0].get_base_model()
    assert not any("forward" in vars(m) for m in inner.modules() if m is not inner)


def test_fp16_is_refused_where_it_would_be_left_out(run_tiny, monkeypatch):
    monkeypatch.setattr("lora_tune.training.find_device", lambda: "cpu")
    with pytest.raises(LoraTuneError, match=r"^training.fp16: needs a GPU, found the CPU; use .*"):
        run_tiny(training={"fp16": True})


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.eval_strategy=epok", "training.eval_strategy: epok is not a valid"),
        ("training.lr_scheduler_type=linearr", "training.lr_scheduler_type: linearr is not a "),
        ("training.metric_for_best_model=acuracy", "is not measured; did you mean accuracy?"),
        (
            "training.train_sampling_strategy=sequental",
            "none of its values; did you mean sequential?",
        ),
        (
            "training.train_sampling_strategy=size",
            "there are random, sequential, group_by_length",
        ),
        ("training.report_to=wandb", "training.report_to: WandbCallback requires wandb"),
        ("training.seed=-1", "training.seed must be 0 to 4294967295, got -1"),
        ("lora.rank=33", "lora.rank: 33 is above 32, the full rank of"),
    ],
)
def test_a_value_that_cannot_be_used_gets_one_line(run_tiny, override, words):
    with pytest.raises(LoraTuneError) as caught:
        run_tiny(overrides=[override])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_holds_what_the_contract_says(plain):
    assert sorted(path.name for path in plain.iterdir()) == [
        "adapter",
        "comparison.json",
        "data.json",
        "environment.json",
        "history.jsonl",
        "predictions.jsonl",
        "recipe.yaml",
        "report.html",
        "training_loss.jsonl",
    ]
    assert {path.name for path in (plain / "adapter").iterdir()} >= {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "labels.json",
        "tokenizer.json",
    }
    comparison = json.loads((plain / "comparison.json").read_text())
    assert comparison["test_rows"] == 32
    assert comparison["adapter_bytes"] == len(weights(plain))
    for side in ("base", "adapted"):
        assert set(comparison[side]) == {"accuracy", "macro_f1", "loss"}
        rows = read_lines(plain / "predictions.jsonl")
        right = np.mean([row[side] == row["label"] for row in rows])
        assert comparison[side]["accuracy"] == pytest.approx(right)
        for row in rows:
            chances = row[f"{side}_probabilities"]
            assert max(chances, key=chances.get) == row[side]
    assert comparison["difference"] == pytest.approx(
        comparison["adapted"]["accuracy"] - comparison["base"]["accuracy"]
    )
    assert [row["epoch"] for row in read_lines(plain / "history.jsonl")] == [1, 2]
    assert [example["text"] for example in comparison["examples"]] == [
        "A fine film.",
        "A dull film.",
    ]


def test_examples_of_two_columns(run_tiny, rows, tmp_path):
    for split in ("train", "test"):
        lines = map(json.loads, (rows / f"{split}.jsonl").read_text().splitlines())
        pairs = [row | {"claim": f"It is {row['text'][:9]}"} for row in lines]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    data = f"data.source={tmp_path}"
    wrong = "examples=[{text: A fine film.}, {claim: It is dull.}]"
    with pytest.raises(DataError, match=r"examples, row 0 .*: found the columns text, expected"):
        run_tiny(overrides=[data, "data.text_pair=claim", wrong])
    right = "examples=[{text: A fine film., claim: It is dull.}]"
    run = run_tiny(overrides=[data, "data.text_pair=claim", right, "training.num_train_epochs=1"])
    (example,) = json.loads((run / "comparison.json").read_text())["examples"]
    assert example["text"] == "A fine film.\nIt is dull."
    card = (run / "adapter" / "README.md").read_text()
    assert "--input rows.jsonl" in card
    given = {"text": "A fine film.", "claim": "It is dull."}
    assert load_adapter(run / "adapter").predict([given])[0].tell() == example["adapted"]


def test_nothing_is_trained_or_selected_on_test_rows(run_tiny, plain, rows, tmp_path):
    """Another test file changes the comparison, and not one bit of the adapter."""
    other = tmp_path / "other.jsonl"
    lines = (rows / "test.jsonl").read_text().splitlines(keepends=True)
    other.write_text("".join(lines[:10] + lines[-10:]))
    changed = run_tiny(data={"test": {"file": str(other)}})
    assert weights(changed) == weights(plain)
    assert json.loads((changed / "comparison.json").read_text())["test_rows"] == 20


def test_what_is_shown_before_training(run_tiny):
    shown = []
    run_tiny(show=shown.append)
    data, adapter, *epochs, hint, comparison, examples, place, report = shown
    assert re.search(r"^train +48 +24 +24 ", data, re.MULTILINE)
    assert "No test text stands in train or validation." in data
    assert "q_lin" in adapter
    assert "Trainable:" in adapter
    assert [line.split("  ")[0] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    assert hint.startswith("Hardly learnt: ")
    assert "macro f1" in comparison
    assert "A fine film." in examples
    assert (place[:9], report[:8]) == ("Adapter: ", "Report: ")


def test_a_bf16_run_is_judged_as_its_adapter_will_be_used(run_tiny, rows):
    """Autocast is for training: base, adapted and reloaded model all answer without it."""
    folder = run_tiny(training={"bf16": True})
    texts = [row["text"] for row in read_lines(rows / "test.jsonl")]
    recorded = read_lines(folder / "predictions.jsonl")
    for row, prediction in zip(
        recorded, load_adapter(folder / "adapter").predict(texts), strict=True
    ):
        assert prediction.probabilities == pytest.approx(row["adapted_probabilities"], abs=1e-6)


def test_a_secret_in_an_interpolation_is_written_and_shown_nowhere(run_tiny, rows, monkeypatch):
    monkeypatch.setenv("SECRET_PLACE", str(rows))
    shown = []
    folder = run_tiny(data={"source": "${oc.env:SECRET_PLACE}"}, show=shown.append)
    assert "${oc.env:SECRET_PLACE}" in (folder / "recipe.yaml").read_text()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 8
    assert not [path for path in files if str(rows).encode() in path.read_bytes()]
    assert str(rows) not in "".join(shown)


@pytest.mark.parametrize(
    "label",
    [
        "`<script>x",
        "![x](https://example.org/x.png)",
        "[a](https://example.org) | **b**",
        "\U0001f600",
    ],
)
def test_labels_cannot_break_out_of_the_card(run_tiny, rows, tmp_path, label):
    for split in ("train", "test"):
        text = (rows / f"{split}.jsonl").read_text().replace('"negative"', json.dumps(label))
        (tmp_path / f"{split}.jsonl").write_text(text)
    folder = run_tiny(data={"source": str(tmp_path), "labels": [label, "positive"]})
    card = (folder / "adapter" / "README.md").read_text()
    shown = MarkdownIt("gfm-like", {"linkify": False}).render(card)
    assert "<script" not in shown
    assert "<img" not in shown
    assert "<a " not in shown
    assert f"<code>{html.escape(label, quote=False)}</code>" in shown
    found = re.search(r"^labels = (.*)$", card, re.MULTILINE)[1]
    assert ast.literal_eval(found) == [label, "positive"]


def test_a_training_that_changes_nothing_says_so(run_tiny, plain):
    trained = json.loads((plain / "comparison.json").read_text())["caveats"]
    assert not any("changed nothing" in caveat for caveat in trained)
    idle = run_tiny(training={"max_steps": 1, "warmup_steps": 1})  # its one step has rate 0
    caveats = json.loads((idle / "comparison.json").read_text())["caveats"]
    assert caveats[-1].startswith("Training changed nothing")


@pytest.mark.parametrize("units", ["AMX", None, "none"])
def test_what_it_computes_with_is_kept_and_a_slow_choice_is_told(run_tiny, monkeypatch, units):
    monkeypatch.setattr("lora_tune.run.find_bfloat16_units", lambda _: units)
    shown = []
    folder = run_tiny(training={"bf16": True, "num_train_epochs": 1}, show=shown.append)
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["autocast"] == "bfloat16"
    assert {"threads", "keeps_freed_memory", "bfloat16_units"} <= environment.keys()
    told = [text for text in shown if text.startswith("training.bf16: ")]
    assert len(told) == (units == "none")
