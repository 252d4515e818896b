"""Where the time of a training step goes, by operator: `make bench`.

Of contestants of speed.py on its work, and of the recipe on that of peers.py. Writes
results/step_profile.md.
"""

import json
import os
import subprocess
import sys
import tempfile

from kept_output import RESULTS, name_processor
from speed_contestant import CONTESTANTS, Watch, prepare
from tabulate import tabulate

from lora_tune.environment import describe_environment

NAMES = ("ours", "full, tuned as ours", "ceiling")
RECIPE = "the recipe"
ROWS = 128
# As minilm_imdb_lora has it, where the contestants share something else.
AS_THE_RECIPE = [
    "lora.rank=8",
    "lora.alpha=16",
    "lora.dropout=0.0",
    "lora.target_modules=all-linear",
    "training.per_device_train_batch_size=8",
]
PRODUCTS = ("aten::mm", "aten::addmm")  # of weights, and most of LoRA's
SHOWN = 16  # operators, those that take most in any of them


def main(data: str) -> None:
    """Profile each in a process of its own, write."""
    shares = {}
    for name in (*NAMES, RECIPE):
        command = [sys.executable, __file__, data, name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{name}: {done.stderr}")
        shares[name] = json.loads(done.stdout.splitlines()[-1])
        print(f"{name}: profiled", flush=True)
    processor = name_processor(describe_environment("cpu"))
    recipe = shares.pop(RECIPE)
    rate = recipe.pop("gflops")
    for taken in shares.values():
        taken.pop("gflops")
    held = sum(recipe.get(name, 0) for name in PRODUCTS) / sum(recipe.values())
    (RESULTS / "step_profile.md").write_text(
        "Made by `make bench DATA=DATA`: milliseconds of a step in each operator itself, by "
        f"torch's profiler (which makes steps slower), over an epoch of {ROWS} rows, the second "
        f"epoch in its process.\n{processor}.\n\nOn the work of speed.md:\n\n"
        f"{_table(shares)}\n\nThe recipe minilm_imdb_lora on that of peers.md (all linear "
        "layers, at most 256 tokens, 8 rows to a step): `mm` and `addmm`, the products of the "
        f"weights and most of LoRA's, at {rate:,.0f} GFLOP/s, are {held:.0%} of it.\n\n"
        f"{_table({RECIPE: recipe})}\n"
    )


def profile(data: str, name: str) -> dict[str, float]:
    """Train under torch's profiler; returns milliseconds a step of each operator itself.

    `gflops` is the rate of the products of weights.
    """
    from lora_tune.environment import keep_freed_memory, quiet_libraries

    keep_freed_memory()
    quiet_libraries()
    from torch.optim.optimizer import register_optimizer_step_post_hook
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    seen = profiler(activities=[ProfilerActivity.CPU], with_flops=True)

    class ProfilingWatch(Watch):
        """Profiles from the end of the first step to that of the last."""

        def end_step(self) -> None:
            super().end_step()
            if len(self.ends) == 1:
                seen.start()
            if len(self.ends) == steps:
                seen.stop()

    watch = ProfilingWatch()
    with tempfile.TemporaryDirectory() as folder:
        tokens, changes = (256, AS_THE_RECIPE) if name == RECIPE else (512, [])
        contestant = "ours" if name == RECIPE else name
        inputs, arguments = prepare(
            contestant, data, ROWS, tokens, 42, 0, folder=folder, changes=changes
        )
        steps = -(-len(inputs.data.train.encoded) // arguments.per_device_train_batch_size)
        # Once before: pages are fresh and products not yet compiled.
        CONTESTANTS[contestant](inputs, arguments, Watch())
        register_optimizer_step_post_hook(watch.see_step)
        CONTESTANTS[contestant](inputs, arguments, watch)
    events = seen.key_averages()
    taken = {event.key: event.self_cpu_time_total / 1e3 / (steps - 1) for event in events}
    counted = [event for event in events if event.key in PRODUCTS]
    seconds = sum(event.self_cpu_time_total for event in counted) / 1e6
    return taken | {"gflops": sum(event.flops for event in counted) / seconds / 1e9}


def _table(shares: dict[str, dict[str, float]]) -> str:
    names = {name for taken in shares.values() for name in taken}
    order = sorted(names, key=lambda name: -max(taken.get(name, 0) for taken in shares.values()))
    columns = shares.values()
    rows: list[list[str | float]] = [
        [f"`{name}`", *(taken.get(name, 0) for taken in columns)] for name in order[:SHOWN]
    ]
    rest = [sum(taken.get(name, 0) for name in order[SHOWN:]) for taken in columns]
    rows += [["all others", *rest], ["all", *(sum(taken.values()) for taken in columns)]]
    return tabulate(rows, ["", *shares], tablefmt="github", floatfmt=".1f")


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["LORA_TUNE_CACHE"] = ""  # nothing is recalled from another contestant
    if len(sys.argv) == 2:
        main(sys.argv[1])
    else:
        print(json.dumps(profile(*sys.argv[1:])))
