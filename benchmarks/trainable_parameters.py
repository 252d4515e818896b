"""Trainable parameters of every recipe, as it is and at ranks 1 to 64, from configurations alone.

`make params` runs this. It writes results/trainable_parameters.json and .md beside it, and
results/recipe_parameters.md for the README.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path

from lora_tune.counting import ParameterCount, count_recipe
from lora_tune.environment import quiet_libraries
from lora_tune.recipe import Recipe
from lora_tune.recipe_file import load_recipe, recipe_names
from lora_tune.tables import parameter_table

HERE = Path(__file__).parent
RANKS = (1, 2, 4, 8, 16, 32, 64)


def main() -> None:
    """Count, print, write."""
    quiet_libraries()
    recipes = [load_recipe(name) for name in recipe_names()]
    counts = [count_at_rank(recipe, rank) for recipe in recipes for rank in RANKS]
    table = parameter_table(counts, style="github")
    print(table)
    as_is = [count_at_rank(recipe, recipe.lora.rank) for recipe in recipes]
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    rows = [asdict(count) | {"trainable": count.trainable_parameters} for count in counts]
    (results / "trainable_parameters.json").write_text(json.dumps(rows, indent=1) + "\n")
    made = "Made by `make params`, from each base's configuration; `bytes` is the size of "
    for name, text in (
        ("trainable_parameters", table),
        ("recipe_parameters", parameter_table(as_is, style="github")),
    ):
        (results / f"{name}.md").write_text(f"{made}adapter_model.safetensors.\n\n{text}\n")


def count_at_rank(recipe: Recipe, rank: int) -> ParameterCount:
    """Count with the architecture kept beside this file, or else with the recipe's own base."""
    kept = HERE / "base_configs" / recipe.model.name
    name = str(kept) if kept.is_dir() else recipe.model.name
    changed = replace(
        recipe, model=replace(recipe.model, name=name), lora=replace(recipe.lora, rank=rank)
    )
    return replace(count_recipe(changed), base=recipe.model.name)


if __name__ == "__main__":
    main()
