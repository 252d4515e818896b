"""Where the time of a training step goes, by operator, for contestants of speed.py: `make bench`.

Writes results/step_profile.md.
"""

import json
import os
import subprocess
import sys
import tempfile

from kept_output import RESULTS
from speed_contestant import BATCH, CONTESTANTS, Watch, prepare
from tabulate import tabulate

NAMES = ("ours", "full, tuned as ours", "ceiling")
WORK = (128, 512, 42, 0)  # rows, most tokens of each, seed, checks: as speed.py
SHOWN = 16  # operators, those that take most in any of them


def main(data: str) -> None:
    """Profile each in a process of its own, write."""
    shares = {}
    for name in NAMES:
        command = [sys.executable, __file__, data, name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{name}: {done.stderr}")
        shares[name] = json.loads(done.stdout.splitlines()[-1])
    (RESULTS / "step_profile.md").write_text(_table(shares))


def profile(data: str, name: str) -> dict[str, float]:
    """Train under torch's profiler; returns milliseconds a step of each operator itself."""
    from lora_tune.environment import keep_freed_memory, quiet_libraries

    keep_freed_memory()
    quiet_libraries()
    from torch.optim.optimizer import register_optimizer_step_post_hook
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    seen = profiler(activities=[ProfilerActivity.CPU])

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
        inputs, arguments = prepare(name, data, *WORK, folder=folder)
        steps = -(-len(inputs.data.train.encoded) // BATCH)
        # Once before: pages are fresh and products not yet compiled.
        CONTESTANTS[name](inputs, arguments, Watch())
        register_optimizer_step_post_hook(watch.see_step)
        CONTESTANTS[name](inputs, arguments, watch)
    events = seen.key_averages()
    return {event.key: event.self_cpu_time_total / 1e3 / (steps - 1) for event in events}


def _table(shares: dict[str, dict[str, float]]) -> str:
    names = {name for taken in shares.values() for name in taken}
    order = sorted(names, key=lambda name: -max(taken.get(name, 0) for taken in shares.values()))
    columns = shares.values()
    rows: list[list[str | float]] = [
        [f"`{name}`", *(taken.get(name, 0) for taken in columns)] for name in order[:SHOWN]
    ]
    rest = [sum(taken.get(name, 0) for name in order[SHOWN:]) for taken in columns]
    rows += [["all others", *rest], ["all", *(sum(taken.values()) for taken in columns)]]
    return (
        "Made by `make bench DATA=DATA`: milliseconds of a step in each operator itself, by "
        f"torch's profiler (which makes steps slower), over an epoch of {WORK[0]} rows as in "
        "speed.md, the second epoch in its process.\n\n"
        + tabulate(rows, ["", *shares], tablefmt="github", floatfmt=".1f")
        + "\n"
    )


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["LORA_TUNE_CACHE"] = ""  # nothing is recalled from another contestant
    if len(sys.argv) == 2:
        main(sys.argv[1])
    else:
        print(json.dumps(profile(*sys.argv[1:])))
