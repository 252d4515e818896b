"""The reload check: a fresh process loads what was saved, and must give the run's outputs.

Run as a module, this is that process: inputs come as JSON, outputs and tensors go back as JSON.
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

from lora_tune.artifacts.manifest import TensorRecord, record_arrays, record_tensors
from lora_tune.artifacts.saved_adapter import load_adapter
from lora_tune.errors import ArtifactError, LoraTuneError
from lora_tune.evaluation.baseline_predictor import BaselinePredictor
from lora_tune.evaluation.fitted_baselines import FittedBaseline, TfidfFeatures
from lora_tune.evaluation.model_evaluation import Evaluation
from lora_tune.evaluation.predictor import Predictor
from lora_tune.lora.adapter import adapter_tensors
from lora_tune.system.environment import keep_freed_memory, quiet_libraries

ROWS = 64  # of the test rows, evenly spread
# The same rows in the same batches: only the order of additions may differ, between threads.
TOLERANCE = 1e-4  # of a logit, or of the largest logit where that is above 1
TFIDF_TOLERANCE = 1e-6  # the same, of a baseline without a base model
# The same, of a linear probe, whose rows were in the batches of all test rows: the features differ
# in their last digits, and the probe may multiply what differs.
PROBE_TOLERANCE = 1e-3
ROUNDED_PROBE_TOLERANCE = 0.5  # on a base model in 16 bits or quantized


@dataclass(frozen=True)
class RecordedOutputs:
    """A model's outputs for some inputs, and its trained tensors."""

    inputs: list[Any]  # of the task
    outputs: list[np.ndarray]  # (outputs, numbers) of each
    tensors: dict[str, TensorRecord]
    noun: str = "adapter"
    tolerance: float = TOLERANCE


@dataclass(frozen=True)
class ReloadCheck:
    """How close a fresh process came; written to comparison.json."""

    rows: int
    largest_logit_difference: float


def record_outputs(predictor: Predictor, inputs: Sequence[Any]) -> RecordedOutputs:
    """Record a trained model's outputs for some of the inputs, evenly spread."""
    chosen = [inputs[place] for place in _choose_places(len(inputs))]
    return RecordedOutputs(chosen, predictor.compute_outputs(chosen), _record_tensors(predictor))


def record_baseline_outputs(
    fitted: FittedBaseline, evaluation: Evaluation, inputs: Sequence[Any], *, is_rounded: bool
) -> RecordedOutputs:
    """Record the outputs of a run's baseline for some of the inputs, evenly spread.

    Args:
        fitted: the baseline.
        evaluation: of it on the test rows.
        inputs: of the test rows.
        is_rounded: whether the base model is quantized or not in float32.
    """
    places = _choose_places(len(inputs))
    tolerance = ROUNDED_PROBE_TOLERANCE if is_rounded else PROBE_TOLERANCE
    if isinstance(fitted.features, TfidfFeatures):
        tolerance = TFIDF_TOLERANCE
    return RecordedOutputs(
        [inputs[place] for place in places],
        [evaluation.outputs[place] for place in places],
        record_arrays(fitted.tensors()),
        noun="baseline",
        tolerance=tolerance,
    )


def _choose_places(count: int) -> list[int]:
    return np.linspace(0, count - 1, min(count, ROWS)).round().astype(int).tolist()


def _record_tensors(predictor: Predictor) -> dict[str, TensorRecord]:
    if isinstance(predictor, BaselinePredictor):
        return record_arrays(predictor.fitted.tensors())
    return record_tensors(adapter_tensors(predictor.model))


def check_reload(folder: Path, trained: RecordedOutputs) -> ReloadCheck:
    """Load what was saved in a fresh process and compare its outputs with those of the run.

    Raises:
        ArtifactError: it does not load, or its outputs differ; names the tensor that differs.
    """
    saved = f"the saved {trained.noun}"
    project = str(Path(__file__).parents[2])
    places = [project, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        # -P: what is in the working directory is not imported.
        [sys.executable, "-P", "-m", "lora_tune.artifacts.reload_check", str(folder)],
        input=json.dumps(trained.inputs),
        capture_output=True,
        text=True,
        # The base model is on this machine: nothing is fetched to check what was saved.
        env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(places)},
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ArtifactError(f"{saved} does not load in a fresh process: {lines[-1]}")
    content = json.loads(done.stdout)
    loaded = {name: TensorRecord(**record) for name, record in content["tensors"].items()}
    problem = _compare_tensors(trained.tensors, loaded)
    if problem:
        raise ArtifactError(f"{saved} is not the trained one: {problem}")
    outputs, expected = (
        np.concatenate([np.array(row, dtype=np.float32).ravel() for row in rows])
        for rows in (content["outputs"], trained.outputs)
    )
    if outputs.shape != expected.shape:
        raise ArtifactError(
            f"{saved} gives other outputs in a fresh process: {outputs.size} numbers, "
            f"expected {expected.size}; its tokenizer differs"
        )
    difference = float(np.abs(outputs - expected).max(initial=0.0))
    if not difference <= trained.tolerance * max(1.0, float(np.abs(expected).max(initial=0.0))):
        raise ArtifactError(
            f"{saved} gives other outputs in a fresh process: a logit differs by "
            f"{difference:.3g} although its tensors are the trained ones; its base model or "
            "tokenizer differs"
        )
    return ReloadCheck(len(trained.inputs), difference)


def _compare_tensors(
    trained: Mapping[str, TensorRecord], loaded: Mapping[str, TensorRecord]
) -> str | None:
    for name in sorted(trained.keys() | loaded.keys()):
        if name not in loaded:
            return f"it lacks the tensor {name}"
        if name not in trained:
            return f"it has an additional tensor, {name}"
        if trained[name] != loaded[name]:
            return f"the tensor {name} differs"
    return None


def main() -> int:
    """Compute the outputs of what a directory, the first argument, holds, in this process."""
    keep_freed_memory()
    quiet_libraries()
    try:
        found = record_outputs(load_adapter(Path(sys.argv[1])), json.load(sys.stdin))
    except LoraTuneError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    outputs = [rows.tolist() for rows in found.outputs]
    tensors = {name: asdict(record) for name, record in found.tensors.items()}
    json.dump({"outputs": outputs, "tensors": tensors}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
