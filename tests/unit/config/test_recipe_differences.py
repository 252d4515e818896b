"""The keys in which recipes differ."""

from lora_tune.config.recipe_differences import find_differences


def test_keys_that_differ_are_found_with_the_value_of_each_recipe():
    recipes = [
        "{lora: {rank: 8, alpha: 16}, data: {labels: [a, b]}, seed: 1}",
        "{lora: {rank: 4, alpha: 16}, data: {labels: [a, c]}, seed: 1}",
        "{lora: {rank: 8, alpha: 16, modules: {}}, data: {labels: [a, b]}, seed: 1}",
    ]
    assert find_differences(recipes) == {
        "lora.rank": [8, 4, 8],
        "data.labels": [["a", "b"], ["a", "c"], ["a", "b"]],
        "lora.modules": [None, None, {}],
    }
    assert find_differences([recipes[0]] * 2) == {}
