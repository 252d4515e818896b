"""Recipes: every wrong key, type and value is answered, all at once."""

import pytest

from lora_tune.errors import RecipeError
from lora_tune.recipe import TRAINING_DEFAULTS
from lora_tune.recipe_file import load_recipe, recipe_names

MINIMAL = "model: {name: base}\ndata: {source: rows.csv}\n"


@pytest.fixture
def write(tmp_path):
    def write_recipe(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return str(path)

    return write_recipe


def fault_lines(name, *overrides):
    with pytest.raises(RecipeError) as caught:
        load_recipe(name, overrides)
    return str(caught.value).splitlines()


def test_defaults_fill_what_a_recipe_leaves_out(write):
    recipe = load_recipe(write(MINIMAL))
    assert recipe.name == "mine"
    assert recipe.lora.target_modules == "all-linear"
    assert recipe.data.validation.fraction == 0.1
    assert recipe.training == TRAINING_DEFAULTS


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("lora.rnak=4", "lora.rnak is not a recipe key; did you mean lora.rank?"),
        ("lroa.rank=4", "lroa is not a recipe key; did you mean lora?"),
        ("data.train.sample=4", "data.train.sample is not a recipe key; did you mean data.train.s"),
        (
            "training.learning_rat=1",
            "training.learning_rat is not a field of transformers.TrainingArguments; did you mean "
            "training.learning_rate?",
        ),
        ("training.learning_rate=nan", "training.learning_rate: found 'nan' (text), expected a nu"),
        ("training.learning_rate=.nan", "training.learning_rate: found nan, expected a finite num"),
        ("training.token_budget=0", "training.token_budget must be >= 1, got 0"),
        ("training.token_budget=many", "training.token_budget: found 'many' (text), expected a wh"),
        ("training.token_budget=null", "training.token_budget: found null, expected a whole numbe"),
        (
            "training.dataloader_drop_last=true",
            "training.dataloader_drop_last cannot be set: every",
        ),
        ("training.learning_rate=-1", "training.learning_rate must be above 0, got -1"),
        ("training.output_dir=x", "training.output_dir cannot be set: name the run directory with"),
        ("training.hub_token=x", "training.hub_token cannot be set: a token does not belong in a "),
        ("lora.rank=0", "lora.rank must be >= 1, got 0"),
        ("lora.rank=four", "lora.rank: found 'four' (text), expected a whole number"),
        ("lora.rank=true", "lora.rank: found True (true or false), expected a whole number"),
        ("lora=4", "lora: found 4 (a whole number), expected a section with keys of its own"),
        ("lora.rank.x=4", "lora.rank.x: lora.rank is a single value, not a section"),
        ("data.labels=[no,yes]", "data.labels: found [False, True] (list), expected a list of te"),
        ("data.labels=[a,a]", "data.labels must not repeat a name, got ['a', 'a']"),
        ("data.text=010", "data.text: found 8 (a whole number), expected text; in YAML, quote it"),
        ("data.train.shards=4", "data.train.shards goes with shard: name both"),
        ("model.quantization=3bit", "model.quantization: found '3bit' (text), expected 4bit or 8b"),
        ("model.dtype=bf16", "model.dtype: found 'bf16' (text), expected float32 or bfloat16 o"),
        (
            "model.double_quantization=false",
            "model.double_quantization false is for quantization=4bit, found null",
        ),
        (
            "training.bf16_full_eval=true",
            "training.bf16_full_eval cannot be set: a base is evaluated as it is loaded; see mod",
        ),
        ("lora.target_modules=[]", "lora.target_modules found [], expected all-linear or a list"),
        ("lora.rank", "lora.rank: expected key=value, such as lora.rank=16"),
        ("data.text=${oc.env:NOT_SET_HERE}", "data.text: KeyError raised while resolving"),
        ("_target_=os.system", "_target_ is not a recipe key"),
    ],
)
def test_a_wrong_override_gets_one_line(write, override, line):
    lines = fault_lines(write(MINIMAL), override)
    assert len(lines) == 1
    assert lines[0].startswith(f"command line: {line}")


def test_faults_of_file_and_command_line_come_together(write):
    path = write(MINIMAL + "lora: {rnak: 4, alpha: much}\n")
    assert fault_lines(path, "training.learning_rat=1") == [
        f"{path}: lora.rnak is not a recipe key; did you mean lora.rank?",
        "command line: training.learning_rat is not a field of transformers.TrainingArguments; did "
        "you mean training.learning_rate?",
        f"{path}: lora.alpha: found 'much' (text), expected a number",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: {source: x}", "model.name is required"),
        ("lora: {rank: 1, rank: 2}", "duplicate key"),
        ("lora: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("- 1", "expected a mapping"),
        ("lora: {rank: 1", "line 2: did not find expected ',' or '}'"),
    ],
)
def test_a_wrong_file_gets_one_line(write, text, words):
    lines = fault_lines(write(text + "\n"))
    assert words in lines[0]


def test_unknown_names_get_a_suggestion():
    assert fault_lines("quikstart") == [
        "quikstart: no recipe of that name; did you mean quickstart?"
    ]
    assert "no such recipe file" in fault_lines("recipes/nope.yaml")[0]


def test_the_recorded_text_keeps_interpolations_and_loads_again(write, monkeypatch):
    monkeypatch.setenv("PLACE", "secret-place")
    path = write("model: {name: base}\ndata: {source: '${oc.env:PLACE}'}\n")
    recipe = load_recipe(path, ["lora.rank=3"])
    assert recipe.data.source == "secret-place"
    assert "secret-place" not in recipe.text
    again = load_recipe(write(recipe.text))
    assert (again.data, again.lora, again.training) == (recipe.data, recipe.lora, recipe.training)


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_loads(name):
    recipe = load_recipe(name)
    assert recipe.data.labels or recipe.task in ("causal_lm", "seq2seq_lm")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.class_weights=heavy", "found 'heavy', expected balanced or a number for each label"),
        ("data.class_weights=[1,2,3]", "found 3 numbers, expected one for each of labels"),
        ("data.class_weights=[0,0]", "expected balanced or a number for each label"),
        ("data.class_weights=[1,-1]", "expected balanced or a number for each label"),
        (
            "data.completion='{answer}'",
            "is for task: causal_lm or seq2seq_lm, found task: sequence_classification",
        ),
        ("data.prompt='{q}'", "goes with data.completion"),
        ("data.prompt='{q'", "expected '}' before end of string"),
        ("data.system='{q'", "expected '}' before end of string"),
        ("data.system=Hi", "is a turn of a chat: needs data.messages, or data.chat_template=true"),
        ("data.chat_template=true", "needs data.messages, or data.prompt and data.completion"),
        ("data.messages=talk", "is for task: causal_lm"),
        ("data.chat_template=1", "found 1 (a whole number), expected true or false or text"),
    ],
)
def test_keys_of_one_task_are_checked(override, words):
    (line,) = [line for line in fault_lines("quickstart", override) if words in line]
    assert line.startswith("command line: data.")


def test_a_chat_is_of_messages_or_of_columns(write):
    data = "task: causal_lm\nmodel: {name: base}\ndata: {source: x, messages: m, completion: '{c}'}"
    (line,) = fault_lines(write(data))
    assert "data.messages are whole conversations; leave out data.prompt" in line
    columns = "data.prompt='{q}'"
    for template, is_chat in (("true", True), ("false", False), ("'{{ x }}'", True)):
        recipe = load_recipe(
            write(data), ["data.messages=null", columns, f"data.chat_template={template}"]
        )
        assert recipe.data.is_chat is is_chat
        assert load_recipe(write(recipe.text)).data == recipe.data


def test_examples_are_texts_or_rows(write):
    recipe = load_recipe(write(MINIMAL + "examples: [one, {a: two, b: three}]"))
    assert recipe.examples == ["one", {"a": "two", "b": "three"}]
    (line,) = fault_lines(write(MINIMAL + "examples: [one, 2]"))
    assert "examples found 2, expected texts, or rows as {column: text}" in line
