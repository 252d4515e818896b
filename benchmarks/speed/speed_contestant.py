"""One contestant of speed.py or time_to_accuracy.py, trained in this fresh process.

`python -m benchmarks.speed.speed_contestant NAME DATA ROWS MAX_LENGTH SEED EVALUATIONS` prints what
it measured as JSON. With EVALUATIONS above 0, it also evaluates the validation rows that often
during training, with the clock stopped, and the test rows at the end.
"""

import json
import sys
import tempfile
from typing import Any

from benchmarks.speed.contestants import BATCH, CONTESTANTS, OVERRIDES, find_correct, prepare
from benchmarks.speed.step_clock import StepClock


def main(
    name: str, data: str, *, rows: int, max_length: int, seed: int, evaluations: int
) -> dict[str, Any]:
    """Train a contestant; returns what was measured."""
    from lora_tune.system.environment import keep_freed_memory, quiet_libraries

    if name in OVERRIDES:  # lora_tune's own
        keep_freed_memory()
    quiet_libraries()
    from torch.optim.optimizer import register_optimizer_step_post_hook

    clock = StepClock()
    register_optimizer_step_post_hook(clock.see_optimizer_step)
    with tempfile.TemporaryDirectory() as folder:
        context, arguments = prepare(
            name,
            data,
            rows=rows,
            max_length=max_length,
            seed=seed,
            evaluates=evaluations > 0,
            folder=folder,
        )
        epochs = round(arguments.num_train_epochs)
        steps = -(-len(context.data.train.encoded) // BATCH) * epochs
        clock.evaluate_after = [
            steps * (number + 1) // evaluations for number in range(evaluations)
        ]
        model, losses, changed = CONTESTANTS[name](context, arguments, clock)
        correct = find_correct(model, context, context.data.test) if evaluations else []
    assert clock.has_gradients or name == "ceiling", "no gradients"
    assert changed, "training changed no weight"
    return clock.report() | {"name": name, "losses": losses, "correct": [int(c) for c in correct]}


if __name__ == "__main__":
    name, data, rows, max_length, seed, evaluations = sys.argv[1:]
    measured = main(
        name,
        data,
        rows=int(rows),
        max_length=int(max_length),
        seed=int(seed),
        evaluations=int(evaluations),
    )
    print(json.dumps(measured))
