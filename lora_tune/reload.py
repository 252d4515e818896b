"""The reload gate: a fresh process loads what was saved, and must answer as the trained model did.

Run as a module, this is that process: inputs come as JSON, answers and tensors go back as JSON.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lora_tune.adapter import adapter_tensors
from lora_tune.environment import keep_freed_memory, quiet_libraries
from lora_tune.errors import ArtifactError, LoraTuneError
from lora_tune.manifest import TensorRecord, record_tensors
from lora_tune.predictor import Predictor, load_adapter

ROWS = 64  # of the test rows, evenly spread
# The same rows in the same batches: only the order of additions may differ, between threads.
TOLERANCE = 1e-4  # of a logit, or of the largest logit where that is above 1


@dataclass(frozen=True)
class Answers:
    """What a model answers, and the tensors that it was trained in."""

    inputs: list[Any]  # of the task
    answers: list[np.ndarray]  # (answers, numbers) of each
    tensors: dict[str, TensorRecord]


@dataclass(frozen=True)
class ReloadCheck:
    """That a fresh process gave the same answers; written to comparison.json."""

    rows: int
    largest_logit_difference: float


def record_answers(predictor: Predictor, inputs: Sequence[Any]) -> Answers:
    """Keep a trained model's answers to some of the inputs, spread evenly."""
    places = np.linspace(0, len(inputs) - 1, min(len(inputs), ROWS)).round().astype(int)
    chosen = [inputs[place] for place in places]
    tensors = record_tensors(adapter_tensors(predictor.model))
    return Answers(chosen, predictor.answer(chosen), tensors)


def check_reload(folder: Path, trained: Answers) -> ReloadCheck:
    """Load an adapter directory in a fresh process and compare its answers with the trained ones.

    Raises:
        ArtifactError: it does not load, or answers otherwise; the tensor at fault is named.
    """
    here = str(Path(__file__).parents[1])
    places = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        # -P: what lies in the working directory is not imported.
        [sys.executable, "-P", "-m", "lora_tune.reload", str(folder)],
        input=json.dumps(trained.inputs),
        capture_output=True,
        text=True,
        # The base is at hand: nothing is fetched to check what was saved.
        env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(places)},
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ArtifactError(f"the saved adapter does not load in a fresh process: {lines[-1]}")
    answer = json.loads(done.stdout)
    loaded = {name: TensorRecord(**record) for name, record in answer["tensors"].items()}
    fault = _compare_tensors(trained.tensors, loaded)
    if fault:
        raise ArtifactError(f"the saved adapter is not the trained one: {fault}")
    answers, expected = (
        np.concatenate([np.array(row, dtype=np.float32).ravel() for row in rows])
        for rows in (answer["answers"], trained.answers)
    )
    if answers.shape != expected.shape:
        raise ArtifactError(
            f"the saved adapter answers otherwise in a fresh process: {answers.size} numbers, "
            f"expected {expected.size}; its tokenizer differs"
        )
    difference = float(np.abs(answers - expected).max(initial=0.0))
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0.0))):
        raise ArtifactError(
            f"the saved adapter answers otherwise in a fresh process: a logit differs by "
            f"{difference:.3g} though its tensors are those trained; its base or tokenizer differs"
        )
    return ReloadCheck(len(trained.inputs), difference)


def _compare_tensors(
    trained: Mapping[str, TensorRecord], loaded: Mapping[str, TensorRecord]
) -> str | None:
    for name in sorted(trained.keys() | loaded.keys()):
        if name not in loaded:
            return f"it lacks the tensor {name}"
        if name not in trained:
            return f"it has a tensor more, {name}"
        if trained[name] != loaded[name]:
            return f"the tensor {name} differs"
    return None


def main() -> int:
    """Answer for an adapter directory, the first argument, in this fresh process."""
    keep_freed_memory()
    quiet_libraries()
    try:
        found = record_answers(load_adapter(Path(sys.argv[1])), json.load(sys.stdin))
    except LoraTuneError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    answers = [rows.tolist() for rows in found.answers]
    tensors = {name: asdict(record) for name, record in found.tensors.items()}
    json.dump({"answers": answers, "tensors": tensors}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
