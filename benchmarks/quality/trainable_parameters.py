"""How many parameters each recipe trains, as it is and at ranks 1 to 64: `make params`.

Counts from the base models' configurations; no weights are loaded. Writes
results/trainable_parameters.json and .md, and results/recipe_parameters.md.
"""

import json
from dataclasses import asdict, replace

from benchmarks.kept_output import RESULTS, ROOT
from lora_tune.commands.params import ParameterCount, count_recipe, parameter_table
from lora_tune.config.recipe import Recipe
from lora_tune.config.recipe_file import recipe_names
from lora_tune.system.environment import quiet_libraries
from lora_tune.tasks.recipes import load_recipe

CONFIGS = ROOT / "benchmarks" / "base_configs"
RANKS = (1, 2, 4, 8, 16, 32, 64)


def main() -> None:
    """Count, then write the record and the pages."""
    quiet_libraries()
    recipes = [load_recipe(name) for name in recipe_names()]
    by_rank = [count_at_rank(recipe, rank) for recipe in recipes for rank in RANKS]
    as_is = [count_at_rank(recipe, recipe.lora.rank) for recipe in recipes]
    rows = [asdict(count) | {"trainable": count.trainable_parameters} for count in by_rank]
    (RESULTS / "trainable_parameters.json").write_text(json.dumps(rows, indent=1) + "\n")
    note = (
        "Made by `make params`, from each base model's configuration; `bytes` is the size of "
        "adapter_model.safetensors."
    )
    for name, counts in (("trainable_parameters", by_rank), ("recipe_parameters", as_is)):
        table = parameter_table(counts, style="github")
        (RESULTS / f"{name}.md").write_text(f"{note}\n\n{table}\n")
    print(parameter_table(by_rank, style="github"))


def count_at_rank(recipe: Recipe, rank: int) -> ParameterCount:
    """Count at a rank, from the configuration in base_configs, or else that of the base model."""
    local = CONFIGS / recipe.model.name
    name = str(local) if local.is_dir() else recipe.model.name
    changed = replace(
        recipe, model=replace(recipe.model, name=name), lora=replace(recipe.lora, rank=rank)
    )
    return replace(count_recipe(changed), base=recipe.model.name)


if __name__ == "__main__":
    main()
