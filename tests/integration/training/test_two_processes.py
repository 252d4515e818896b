"""Two processes that train together see every row once and train the adapter of one process."""

import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import ROOT
from tests.tiny import make_base
from tests.two_processes import CASES, EPOCHS, train_cases


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The batches and the adapters of two processes."""
    folder = tmp_path_factory.mktemp("two")
    make_base(folder / "base", "gpt2")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "tests.two_processes", str(folder)]
    running = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in running:
            _, errors = process.communicate(timeout=180)
            assert process.returncode == 0, errors
    finally:
        for process in running:  # one may wait for another that failed
            process.kill()
    return folder


@pytest.mark.parametrize("name", CASES)
def test_two_processes_see_every_row_once(folder, name):
    seen = [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(2)]
    sides = [side["batches"] for side in seen]
    assert len(sides[0]) == len(sides[1])
    count, more = divmod(len(sides[0]), EPOCHS)
    assert not more
    epochs = [[side[e * count : (e + 1) * count] for side in sides] for e in range(EPOCHS)]
    for halves in epochs:
        rows = [row for batches in halves for batch in batches for row in batch]
        assert sorted(rows) == list(range(CASES[name]["rows"]))
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case["is_comparable"]])
def test_two_processes_train_the_adapter_of_one(folder, name):
    train_cases(folder, [name], together=2)
    one = load_file(folder / f"{name}-alone.safetensors")
    for rank in range(2):
        other = load_file(folder / f"{name}-{rank}.safetensors")
        assert all(torch.allclose(one[key], other[key], atol=1e-5) for key in one)
    initial = load_file(folder / "initial.safetensors")
    assert max((one[key] - initial[key]).abs().max() for key in one) > 1e-3
    alone, both = (
        json.loads((folder / f"{name}-{who}.json").read_text())["losses"] for who in ("alone", 0)
    )
    assert both == pytest.approx(alone, abs=1e-4)
