"""Downloads from a Hub server of another project, olah, over git repositories."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace

import pytest

from lora_tune.artifacts.saved_adapter import load_adapter
from tests.conftest import ROOT
from tests.parts import Parts
from tests.tiny import make_base

TEXTS = ["A fine film.", "A dull film."]
PLACES = [str(ROOT / ".olah" / "bin" / "olah-cli"), "olah-cli"]


def commit(folder):
    """Make a git repository of a folder; returns its commit."""

    def git(*words):
        command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-q", "-m", "all")
    return git("rev-parse", "HEAD")


@pytest.fixture
def mirrors(tmp_path):
    base = make_base(tmp_path / "mirrors/models/acme/base", "distilbert-base-uncased")
    parts = Parts(base)
    parts.checkpoint = replace(parts.checkpoint, name="acme/base", revision=commit(base))
    parts.attach()
    parts.train_a_little()
    adapter = tmp_path / "mirrors/models/me/adapter"
    parts.save(adapter)
    expected = load_adapter(adapter, base=str(base)).predict(TEXTS)
    commit(adapter)
    return tmp_path / "mirrors", expected


@pytest.fixture
def olah(mirrors, tmp_path):
    command = next(filter(None, map(shutil.which, PLACES)), None)
    if command is None:
        pytest.skip("needs the olah server: make olah")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    (tmp_path / "olah.toml").write_text(f"""
[basic]
host = "127.0.0.1"
port = {port}
repos-path = "{tmp_path / "cache"}"
log-path = "{tmp_path / "log"}"
mirror-netloc = "127.0.0.1:{port}"
mirrors-path = ["{mirrors[0]}"]
[accessibility]
offline = true
""")
    server = subprocess.Popen(
        [command, "-c", "olah.toml"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield wait_for(f"http://127.0.0.1:{port}")
    finally:
        server.terminate()
        server.wait()


def wait_for(address):
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{address}/api/models/me/adapter", timeout=5).close()
            return address
        except urllib.error.HTTPError:
            return address
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(address)


def test_an_adapter_and_its_base_come_from_olah(olah, mirrors, tmp_path):
    environment = {"HF_ENDPOINT": olah, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf")}
    command = [sys.executable, "-m", "lora_tune", "predict", "me/adapter"]
    done = subprocess.run(
        [*command, "--text", *TEXTS, "--output", "-"],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for line, right in zip(done.stdout.splitlines(), mirrors[1], strict=True):
        assert json.loads(line)["p_fine"] == pytest.approx(right.probabilities["fine"], abs=1e-6)
