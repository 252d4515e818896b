"""What the sections of a recipe forbid together."""

import pytest

from lora_tune.config.recipe_file import load_recipe


def test_examples_are_texts_or_rows(load, write, fault_lines):
    recipe = load(text="examples: [one, {a: two, b: three}]")
    assert recipe.examples == ["one", {"a": "two", "b": "three"}]
    (line,) = fault_lines(write(), "examples=[one, 2]")
    assert "examples: found 2, expected texts, or rows as {column: text}" in line


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "data.completion='{answer}'",
            "is for task: causal_lm or seq2seq_lm, found task: sequence_classification",
        ),
        ("data.messages=talk", "is for task: causal_lm, found task: sequence_classification"),
        ("data.threshold=0.5", "is for task: multi_label_classification, found task: sequence_cl"),
    ],
)
def test_keys_of_one_task_are_checked(fault_lines, override, words):
    (line,) = [line for line in fault_lines("quickstart", override) if words in line]
    assert line.startswith("command line: data.")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("seeds=[]", "seeds must name at least one seed, or be null"),
        ("seeds=[1,1]", "seeds must not repeat a seed, got [1, 1]"),
        ("seeds=[-1]", "seeds must be at least 0 and below 2**32, got -1"),
        ("baselines.last_layers=-1", "baselines.last_layers must be >= 0, got -1"),
        ("baselines.learning_rate=0", "baselines.learning_rate must be above 0, got 0.0"),
        ("generation.num_beams=2", "generation is for task: causal_lm or seq2seq_lm, found sequen"),
        (
            "model.double_quantization=false",
            "model.double_quantization false needs quantization=4bit, found null",
        ),
        ("model.dropout=1", "model.dropout must be at least 0 and below 1, got 1.0"),
        (
            "training.bf16=true model.quantization=8bit",
            "training.bf16 changes what 8-bit layers compute; set model.dtype=bfloat16",
        ),
        (
            "training.precision=bfloat16 model.quantization=8bit",
            "training.precision changes what 8-bit layers compute; set model.dtype=bfloat16",
        ),
        (
            "baselines.last_layers=1 model.quantization=4bit model.dtype=bfloat16",
            "baselines cannot train weights of a base model in 4-bit (nf4) and bfloat16; set "
            "model.quantization=null and model.dtype=float32",
        ),
    ],
)
def test_values_that_exclude_each_other_get_one_line(write, fault_lines, override, line):
    (only,) = fault_lines(write(), *override.split(" "))
    assert only.startswith(f"command line: {line}")


def test_a_chat_is_of_messages_or_of_columns(write, fault_lines):
    data = "task: causal_lm\nmodel: {name: base}\ndata: {source: x, messages: m, completion: '{c}'}"
    (line,) = fault_lines(write(data))
    assert "data.messages holds whole conversations; remove data.prompt" in line
    columns = "data.prompt='{q}'"
    for template, is_chat in (("true", True), ("false", False), ("'{{ x }}'", True)):
        recipe = load_recipe(
            write(data), ["data.messages=null", columns, f"data.chat_template={template}"]
        )
        assert recipe.data.is_chat is is_chat
        assert load_recipe(write(recipe.text)).data == recipe.data


def test_all_seeds_are_the_recipes_own_or_the_one_of_training(load):
    assert load("training.seed=7").all_seeds == [7]
    assert load("training.seed=7", "seeds=[3,1]").all_seeds == [3, 1]
