"""Where the time of a training step goes, by operator: `make step-profile DATA=FOLDER`.

Profiles contestants of speed.py on its rows, and the recipe minilm_imdb_lora on the rows of
peers.py. Writes results/step_profile.md.
"""

import json
import sys
import tempfile

from tabulate import tabulate

from benchmarks.fresh_process import run_module
from benchmarks.kept_output import RESULTS, name_processor
from benchmarks.speed.contestants import CONTESTANTS, TITLES, prepare
from benchmarks.speed.step_clock import StepClock
from lora_tune.system.environment import describe_environment

PROFILED = ("ours", "full, tuned as ours", "ceiling")
RECIPE = "minilm_imdb_lora"
ROWS, SEED = 128, 42
# The recipe's own values, where the contestants share others.
RECIPE_OVERRIDES = [
    "lora.rank=8",
    "lora.alpha=16",
    "lora.dropout=0.0",
    "lora.target_modules=all-linear",
    "training.per_device_train_batch_size=8",
]
WEIGHT_PRODUCTS = ("aten::mm", "aten::addmm")  # most of LoRA's among them
SHOWN = 16  # operators, by the most time that they take in any of the columns


def main(data: str) -> None:
    """Profile each in a fresh process, then write the page.

    Args:
        data: a folder with IMDb's train.parquet and test.parquet.
    """
    profiles = {}
    for name in (*PROFILED, RECIPE):
        profiles[name] = run_module("benchmarks.speed.step_profile", data, name)
        print(f"{TITLES.get(name, name)}: profiled", flush=True)
    gflops = {name: profile.pop("gflops") for name, profile in profiles.items()}
    recipe = profiles.pop(RECIPE)
    share = sum(recipe.get(name, 0) for name in WEIGHT_PRODUCTS) / sum(recipe.values())
    contestants = {TITLES[name]: profile for name, profile in profiles.items()}
    (RESULTS / "step_profile.md").write_text(
        "Made by `make step-profile DATA=FOLDER`: milliseconds per step that each operator takes "
        "itself, by torch's profiler (which slows steps down), over an epoch of "
        f"{ROWS} rows, the second epoch in its process.\n"
        f"{name_processor(describe_environment('cpu'))}.\n\nOn the rows of speed.md:\n\n"
        f"{_format_table(contestants)}\n\n"
        f"The recipe {RECIPE} on the rows of peers.md (all linear layers, at most 256 tokens, "
        "batches of 8): `mm` and `addmm`, the products of the weights and most of LoRA's, run at "
        f"{gflops[RECIPE]:,.0f} GFLOP/s and take {share:.0%} of the time.\n\n"
        f"{_format_table({RECIPE: recipe})}\n"
    )


def profile(data: str, name: str) -> dict[str, float]:
    """Train under torch's profiler.

    Returns:
        Milliseconds per step that each operator takes itself; and as `gflops`, the rate of the
        products of weights, in GFLOP/s.
    """
    from lora_tune.system.environment import keep_freed_memory, quiet_libraries

    keep_freed_memory()
    quiet_libraries()
    from torch import profiler
    from torch.optim.optimizer import register_optimizer_step_post_hook

    profiled = profiler.profile(activities=[profiler.ProfilerActivity.CPU], with_flops=True)

    class ProfilingClock(StepClock):
        """Profiles from the end of the first step to that of the last."""

        def end_step(self) -> None:
            super().end_step()
            if len(self.step_ends) == 1:
                profiled.start()
            if len(self.step_ends) == steps:
                profiled.stop()

    clock = ProfilingClock()
    with tempfile.TemporaryDirectory() as folder:
        is_recipe = name == RECIPE
        contestant = "ours" if is_recipe else name
        context, arguments = prepare(
            contestant,
            data,
            rows=ROWS,
            max_length=256 if is_recipe else 512,
            seed=SEED,
            evaluates=False,
            folder=folder,
            overrides=RECIPE_OVERRIDES if is_recipe else [],
        )
        steps = -(-len(context.data.train.encoded) // arguments.per_device_train_batch_size)
        # A first epoch, not profiled: memory pages are new and products not yet compiled.
        CONTESTANTS[contestant](context, arguments, StepClock())
        register_optimizer_step_post_hook(clock.see_optimizer_step)
        CONTESTANTS[contestant](context, arguments, clock)
    events = profiled.key_averages()
    milliseconds = {e.key: e.self_cpu_time_total / 1e3 / (steps - 1) for e in events}
    products = [event for event in events if event.key in WEIGHT_PRODUCTS]
    seconds = sum(event.self_cpu_time_total for event in products) / 1e6
    return milliseconds | {"gflops": sum(event.flops for event in products) / seconds / 1e9}


def _format_table(profiles: dict[str, dict[str, float]]) -> str:
    columns = profiles.values()
    names = {name for column in columns for name in column}
    order = sorted(names, key=lambda name: -max(column.get(name, 0) for column in columns))
    rows: list[list[str | float]] = [
        [f"`{name}`", *(column.get(name, 0) for column in columns)] for name in order[:SHOWN]
    ]
    others = [sum(column.get(name, 0) for name in order[SHOWN:]) for column in columns]
    rows += [["all others", *others], ["total", *(sum(column.values()) for column in columns)]]
    return tabulate(rows, ["", *profiles], tablefmt="github", floatfmt=".1f")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        main(sys.argv[1])
    else:
        print(json.dumps(profile(*sys.argv[1:])))
