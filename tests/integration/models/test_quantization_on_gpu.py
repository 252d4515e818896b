"""Quantized base models on a GPU, from a recipe to an adapter that a fresh process loads."""

import json

import pytest
import torch

from lora_tune.artifacts.saved_adapter import load_adapter
from lora_tune.commands.merge import MergeOptions, merge_adapters
from tests.tiny import make_base

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, found none"),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_a_quantized_base_trains_reloads_and_merges(run_tiny, rows, tmp_path, bits, dtype):
    pytest.importorskip("bitsandbytes", reason="quantization needs bitsandbytes")
    base = make_base(tmp_path / "base", "gpt2", n_embd=64)
    run = run_tiny(
        "gpt2",
        model={"name": str(base), "quantization": bits, "dtype": dtype},
        training={"gradient_checkpointing": True, "bf16": dtype == "bfloat16"},
        reload=True,  # in a fresh process, on the GPU too
    )
    compared = json.loads((run / "comparison.json").read_text())
    assert compared["reload"]["rows"] == 32
    assert 0 < compared["peak_memory_bytes"] < 1e9  # on the GPU, not of the process
    environment = json.loads((run / "environment.json").read_text())
    assert environment["device"] == "cuda"
    assert (
        environment["base_weights"]["loaded_bytes"] < environment["base_weights"]["float32_bytes"]
    )
    loaded = load_adapter(run / "adapter")
    assert next(loaded.model.parameters()).device.type == "cuda"
    texts = [json.loads(line)["text"] for line in (rows / "test.jsonl").open()]
    recorded = [json.loads(line) for line in (run / "predictions.jsonl").open()]
    for row, prediction in zip(recorded, loaded.predict(texts), strict=True):
        assert prediction.probabilities == pytest.approx(row["adapted_probabilities"], abs=0.02)
    parities = []
    merge_adapters(
        [run / "adapter"],
        output=tmp_path / "merged",
        options=MergeOptions(force=True),
        show=parities.append,
    )
    assert parities[0].largest_logit_difference < 0.5
