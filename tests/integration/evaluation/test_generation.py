"""Generated texts: those of transformers alone, and scored where a recipe says so."""

import json

import pytest
import torch
import yaml

from lora_tune.artifacts.run_reader import read_run
from lora_tune.artifacts.saved_adapter import load_adapter
from lora_tune.cli import main
from lora_tune.commands.compare import compare_runs, write_run_comparison
from lora_tune.config.data import DataConfig
from lora_tune.config.generation import GenerationConfig
from lora_tune.config.model import ModelConfig
from lora_tune.data.preprocessing import Preprocessor
from lora_tune.evaluation.generation import make_generator
from lora_tune.models.checkpoint import resolve_checkpoint
from lora_tune.models.loading import load_model
from lora_tune.models.tokenizer import load_tokenizer
from lora_tune.tasks import make_task
from tests.tiny import make_base

PROMPTS = ["Is 3 even?", "Say yes, or no, or something longer.", "So", "A dull film; is it good?"]
# Large random weights, else every prompt has the same text.
WIDE = {"gpt2": {}, "bart": {"init_std": 1.0}, "google/flan-t5-base": {"initializer_factor": 20.0}}
BASES = {"gpt2": "causal_lm", "bart": "seq2seq_lm", "google/flan-t5-base": "seq2seq_lm"}


def load(folder, name, **data):
    task = make_task(BASES[name])
    config = ModelConfig(name=str(make_base(folder, name, **WIDE[name])))
    checkpoint = resolve_checkpoint(config)
    tokenizer = load_tokenizer(checkpoint, config, data=DataConfig(max_length=64, **data))
    model, _, _ = load_model(checkpoint, config, task=task, labels=[], tokenizer=tokenizer)
    return task, tokenizer, model.eval()


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", BASES)
def test_a_batch_generates_what_each_prompt_alone_does(name, beams, tmp_path):
    task, tokenizer, model = load(tmp_path, name)
    config = GenerationConfig(max_new_tokens=12, num_beams=beams)
    generator = make_generator(task, tokenizer, config)
    inputs = Preprocessor(task, DataConfig(), tokenizer).preprocess_rows(PROMPTS, where="")
    generated = generator.generate(model, inputs)
    alone = []
    for text in PROMPTS:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        if name == "gpt2":  # trained with the end-of-text token before a text
            ids = torch.cat([torch.tensor([[tokenizer.eos_token_id]]), ids], dim=1)
        with torch.no_grad():
            found = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=12,
                num_beams=beams,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )[0]
        found = found if task.generation.is_encoder_decoder else found[ids.shape[1] :]
        alone.append(tokenizer.decode(found, skip_special_tokens=True))
    assert generated == alone
    assert len(set(generated)) > 1


def test_a_long_prompt_is_truncated_on_the_right_side(tmp_path):
    long = "x" * 600 + " end"
    task, tokenizer, _ = load(tmp_path / "gpt2", "gpt2")
    (ids,) = task.generation.tokenize_prompts([{"prompt": long}], tokenizer, 40)
    assert len(ids) == 40
    assert tokenizer.decode(ids).endswith(" end")
    task, tokenizer, _ = load(tmp_path / "bart", "bart")
    (ids,) = task.generation.tokenize_prompts([{"prompt": long}], tokenizer, 40)
    assert len(ids) == 40
    assert tokenizer.decode(ids) == "<s>" + "x" * 38 + "</s>"
    task, tokenizer, _ = load(tmp_path / "other", "bart", truncation_side="left")
    columns, counts = task.tokenize([{"prompt": long, "completion": long}], None, tokenizer, 40)
    assert tokenizer.decode(columns["input_ids"][0]).endswith(" end</s>")
    assert tokenizer.decode(columns["labels"][0]) == "<s>" + "x" * 38 + "</s>"
    assert counts.tolist() == [606]


def question_rows(count):
    for i in range(count):
        yield {"question": f"Is {i % 10} even?", "answer": "Yes." if i % 2 == 0 else "No."}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generation")
    for split, count in (("train", 60), ("validation", 20), ("test", 30)):
        lines = [json.dumps(row) + "\n" for row in question_rows(count)]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    content = {
        "task": "seq2seq_lm",
        "model": {"name": str(make_base(folder / "base", "bart", init_std=0.3)), "dropout": 0.0},
        "data": {
            "source": str(folder),
            "validation": {"split": "validation"},
            "prompt": "{question}",
            "completion": "{answer}",
            "max_length": 64,
        },
        "lora": {"rank": 16, "alpha": 32},
        "training": {
            "num_train_epochs": 8,
            "per_device_train_batch_size": 4,
            "learning_rate": 0.01,
        },
        "generation": {"metric": "exact_match", "max_new_tokens": 8, "num_beams": 2},
        "examples": ["Is 4 even?", "Is 7 even?"],
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(content))
    return folder / "tiny.yaml"


@pytest.fixture(scope="module")
def run(recipe):
    assert main(["train", str(recipe), "--output", str(recipe.parent / "run")]) == 0
    return recipe.parent / "run"


def test_generated_texts_decide_the_comparison(run):
    compared = json.loads((run / "comparison.json").read_text())
    assert compared["metric"] == "exact_match"
    assert {"rougeL", "rouge1", "rouge2", "bleu", "perplexity"} <= compared["adapted"].keys()
    assert compared["base"]["exact_match"] == 0
    rows = [json.loads(line) for line in (run / "predictions.jsonl").open()]
    right = [row["adapted"].strip() == row["label"].strip() for row in rows]
    assert compared["adapted"]["exact_match"] == pytest.approx(sum(right) / len(right))
    assert compared["adapted"]["exact_match"] >= 0.5
    assert [score["name"] for score in compared["results"]] == ["lead", "base", "lora"]
    # Completions have one word, and all questions begin with Is.
    assert rows[3]["predictions"]["lead"] == "3"
    assert "LoRA is better than the beginning of the prompt by" in compared["headline"]
    assert "beginning of the prompt" in (run / "report.html").read_text()


def test_an_adapter_generates_as_its_recipe_says(run):
    compared = json.loads((run / "comparison.json").read_text())
    adapter = load_adapter(run / "adapter")
    assert adapter.generation == GenerationConfig("exact_match", 8, 2)
    texts = [example["text"] for example in compared["examples"]]
    generated = [completion.text for completion in adapter.predict(texts)]
    assert generated == [example["adapted"] for example in compared["examples"]]


def test_evaluate_and_compare_use_the_same_metric(run, recipe, tmp_path, capsys, skip_reload_check):
    again = tmp_path / "again.json"
    assert main(["evaluate", str(run / "adapter"), "--output", str(again)]) == 0
    trained = json.loads((run / "comparison.json").read_text())
    assert json.loads(again.read_text())["adapted"] == pytest.approx(trained["adapted"], rel=1e-5)
    other = recipe.parent / "other"
    assert main(["train", str(recipe), "training.max_steps=2", "--output", str(other)]) == 0
    compared = compare_runs([run, other])
    assert compared.metric.name == "exact_match"
    assert compared.comparisons[0].paired.difference > 0
    write_run_comparison(compared, tmp_path / "page.html")
    assert "exact match" in (tmp_path / "page.html").read_text()
    assert read_run(run).counts("lead").shape == (30, 2)
    third = recipe.parent / "third"
    short = ["training.max_steps=2", "generation.metric=null", "--output", str(third)]
    assert main(["train", str(recipe), *short]) == 0
    assert main(["compare", str(run), str(third)]) == 2
    message = "found runs with the metric exact_match and perplexity, expected the same metric"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (["generation.metric=rouge"], "generation.metric"),
        (["generation.max_new_tokens=2000"], "generation.max_new_tokens: found 2000, but "),
        (
            ["task=causal_lm", "data.prompt=null", "data.completion=null", "data.text=question"],
            "generation.metric needs something to answer: data.prompt with {column}",
        ),
        (["data.prompt='{question!r}'"], "expected only a column name between braces"),
        (["generation.num_beams=0"], "generation.num_beams must be >= 1, got 0"),
        (["data.prompt=null"], "data.prompt is needed by task: seq2seq_lm, such as '{column}'"),
        (
            ["task=causal_lm"],
            "task: causal_lm needs a decoder-only model, such as gpt2; or set task=seq",
        ),
        (
            ["task=sequence_classification", "data.prompt=null", "data.completion=null"],
            "generation is for task: causal_lm or seq2seq_lm, found sequence_classification",
        ),
    ],
)
def test_invalid_settings_get_one_line(recipe, changes, line, tmp_path, capsys):
    assert main(["train", str(recipe), *changes, "--output", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert line in message
    assert "Traceback" not in message


def test_a_decoder_is_refused_for_seq2seq(recipe, tmp_path, capsys):
    base = make_base(tmp_path / "gpt2", "gpt2")
    words = ["train", str(recipe), f"model.name={base}", "--output", str(tmp_path / "out")]
    assert main(words) == 2
    message = capsys.readouterr().err
    assert (
        "found a decoder-only model (gpt2); task: seq2seq_lm needs an encoder-decoder model"
        in message
    )
    assert "or set task=causal_lm" in message
