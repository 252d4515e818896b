"""Shared by all tests: no network, a cache of their own, small tokenizers and models."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# Before any Hugging Face library is imported.
CACHE = tempfile.mkdtemp(prefix="lora-tune-tests-")
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)
os.environ["HF_HOME"] = CACHE
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["LORA_TUNE_CACHE"] = f"{CACHE}/lora_tune"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Test files run side by side, a process each: more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(autouse=True)
def _root_of_checkout(monkeypatch):
    """Recipes name paths from the root of a checkout."""
    monkeypatch.chdir(ROOT)


@pytest.fixture
def shared():
    if not SHARED.is_dir():
        pytest.skip(f"needs the real datasets in {SHARED}")
    return SHARED
