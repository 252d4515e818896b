"""A request that the Hub does not answer does not switch the process offline."""

import json
import subprocess
import sys

import datasets
import pytest
from huggingface_hub import constants

from lora_tune.system.hub import offline
from tests.loopback_hub import LoopbackHub

LOAD = """
import json, sys
from lora_tune.config.data import DataConfig
from lora_tune.data.sources import open_source
from lora_tune.errors import DataError

outcomes = []
for name in sys.argv[1:]:
    try:
        source = open_source(DataConfig(source=name))
        outcomes.append(list(source.read("train", key="data.train").rows()))
    except DataError as error:
        outcomes.append(str(error))
print(json.dumps(outcomes))
"""


def make_rows(word):
    return [{"text": f"{word} film {number}", "label": str(number % 2)} for number in range(4)]


@pytest.fixture
def hub():
    with LoopbackHub() as hub:
        for word in ("good", "bad"):
            lines = "".join(json.dumps(row) + "\n" for row in make_rows(word))
            hub.add(f"someone/{word}", {"train.jsonl": lines.encode()}, kind="datasets")
        yield hub


def load(hub, cache, *names):
    """Load datasets one after another in one process; returns the rows or the error of each."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *names],
        env=hub.environment(cache) | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_request_after_a_failure_reaches_the_hub(hub, tmp_path):
    hub.fail("GET", "someone/good/revision/main", status=503)
    failed, downloaded = load(hub, tmp_path, "someone/good", "someone/good")
    assert "HTTP status 503" in failed
    assert downloaded == make_rows("good")
    # Now that the local cache has the dataset, the next failure falls back to it.
    hub.fail("GET", "someone/good/revision/main", status=503)
    cached, downloaded = load(hub, tmp_path, "someone/good", "someone/bad")
    assert cached == make_rows("good")
    assert downloaded == make_rows("bad")
    assert not hub.failures


def test_offline_restores_both_settings_after_an_error(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)

    def raise_offline():
        with offline():
            assert constants.is_offline_mode()
            assert datasets.config.HF_HUB_OFFLINE
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        raise_offline()
    assert not constants.is_offline_mode()
    assert not datasets.config.HF_HUB_OFFLINE
