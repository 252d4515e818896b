"""An interrupted run publishes nothing, says so, and keeps its checkpoints."""

import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.tiny import make_base


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run(tmp_path, number):
    base = make_base(tmp_path / "base", "distilbert-base-uncased")
    command = [sys.executable, "-m", "lora_tune", "train", "quickstart", f"model.name={base}"]
    command += ["training.num_train_epochs=10000", "data.train.samples=40"]
    command += ["--output", str(tmp_path / "out")]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that run in the background ignore SIGINT, and so do their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        for line in process.stdout:
            if line.startswith("epoch 2/"):  # so the checkpoint of the first epoch is written
                break
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    first, second = errors.splitlines()
    assert first == "Interrupted: nothing was published"
    (checkpoints,) = tmp_path.glob(".out.*.incomplete/checkpoints")
    assert second == f"The last checkpoints are in {checkpoints}"
    assert list(checkpoints.glob("lora-*/checkpoint-*/adapter_model.safetensors"))
    assert not (tmp_path / "out").exists()
