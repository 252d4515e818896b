"""Which keys of a recipe its task has, and which it needs."""

from dataclasses import fields, replace

import pytest

from lora_tune.config.data import DataConfig
from lora_tune.config.generation import GenerationConfig
from lora_tune.config.recipe import Recipe
from lora_tune.config.recipe_file import recipe_names
from lora_tune.errors import RecipeError
from lora_tune.tasks import TASKS
from lora_tune.tasks.recipes import check_task, load_recipe


def test_tasks_name_keys_of_the_data_section():
    names = {field.name for field in fields(DataConfig)}
    for task in TASKS.values():
        assert set(task.required_keys) <= set(task.data_keys) <= names


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_task_takes_its_own_keys_and_no_others(task):
    every_key = {key for other in TASKS.values() for key in other.data_keys}
    for key in every_key:
        required = dict.fromkeys(task.required_keys, "{a}")
        recipe = Recipe(task=task.name, data=replace(DataConfig(), **required | {key: "{b}"}))
        problems = dict(check_task(recipe))
        assert list(problems) == ([] if key in task.data_keys else [f"data.{key}"])
        for key in task.required_keys:
            data = replace(recipe.data, **{key: None})
            found = dict(check_task(replace(recipe, data=data)))[f"data.{key}"]
            assert f"is needed by task: {task.name}" in found


def test_generation_is_for_tasks_that_generate():
    for task in TASKS.values():
        data = DataConfig(**dict.fromkeys(task.required_keys, "{a}"))
        recipe = Recipe(task=task.name, data=data, generation=GenerationConfig(num_beams=2))
        assert ("generation" in dict(check_task(recipe))) == (task.generation is None)


def test_faults_of_the_task_stand_beside_others(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "task: question_answering\nmodel: {name: base}\n"
        "data: {source: rows.csv, labels: [a, b], max_length: 4}\n"
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(path), ["data.prompt='{a}'", "data.completion='{b}'"])
    classes = "sequence_classification or multi_label_classification or token_classification"
    assert str(caught.value).splitlines() == [
        f"{path}: data.max_length must be >= 8 tokens, got 4",
        f"{path}: data.labels is for task: {classes}, found task: question_answering",
        "command line: data.prompt is for task: causal_lm or seq2seq_lm, found task: "
        "question_answering",
        "command line: data.completion is for task: causal_lm or seq2seq_lm, found task: "
        "question_answering",
        f"{path}: data.text_pair is needed by task: question_answering; name a column",
    ]


def test_an_unknown_task_is_left_to_its_maker():
    assert not list(check_task(Recipe(task="tokens", data=DataConfig(text_pair="b"))))


@pytest.mark.parametrize("name", recipe_names())
def test_the_recipes_have_no_key_of_another_task(name):
    assert not list(check_task(load_recipe(name)))
