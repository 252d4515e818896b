"""A merged model gives the adapter's logits, for every architecture and precision."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from lora_tune.commands.merge import MergeOptions, merge_adapters, parity_table
from lora_tune.errors import ArtifactError
from lora_tune.lora.adapter import merge_adapter
from tests.conftest import ROOT
from tests.integration.conftest import BASES
from tests.tiny import make_base

# Trained enough for merging to change the predictions.
TRAINED = {"training": {"learning_rate": 0.02, "num_train_epochs": 4}}


@pytest.fixture(scope="module")
def adapters(run_tiny):
    return {name: run_tiny(name, **TRAINED) / "adapter" for name in BASES}


@pytest.fixture(scope="module")
def second(run_tiny):
    lora = {"rank": 4, "alpha": 8}
    return run_tiny(lora=lora, training=TRAINED["training"] | {"seed": 7}) / "adapter"


def merge(sources, output, **options):
    parities = []
    folder = merge_adapters(
        sources, output=output, options=MergeOptions(**options), show=parities.append
    )
    return folder, parities[0]


@pytest.mark.parametrize("name", BASES)
def test_float32_flips_no_prediction(adapters, tmp_path, name):
    folder, parity = merge([adapters[name]], tmp_path / "merged")
    assert parity.rows == 32
    assert parity.flipped_predictions == 0
    assert parity.largest_logit_difference < 1e-4
    assert json.loads((folder / "parity.json").read_text())["rows"] == 32
    changed = load_file(folder / "model.safetensors")
    assert not [tensor for tensor in changed if "lora" in tensor]


def test_merged_weights_are_base_weights_plus_adapter(adapters, bases, tmp_path):
    folder, _ = merge([adapters["bert-base-cased"]], tmp_path / "merged")
    own, merged = (
        json.loads((place / "config.json").read_text()).get("hidden_dropout_prob", 0.1)
        for place in (bases["bert-base-cased"], folder)
    )
    assert merged == own > 0  # although the adapter was trained without
    merged = load_file(folder / "model.safetensors")
    base = load_file(bases["bert-base-cased"] / "model.safetensors")
    adapter = load_file(adapters["bert-base-cased"] / "adapter_model.safetensors")
    layer = "encoder.layer.0.attention.self.query"
    a, b = (adapter[f"base_model.model.bert.{layer}.lora_{part}.weight"] for part in ("A", "B"))
    expected = base[f"{layer}.weight"] + 16 / 8 * b @ a  # alpha / rank
    assert torch.allclose(merged[f"bert.{layer}.weight"], expected, atol=1e-6)
    assert not torch.allclose(merged[f"bert.{layer}.weight"], base[f"{layer}.weight"], atol=1e-3)


def test_bfloat16_reports_its_difference(adapters, tmp_path):
    folder, parity = merge([adapters["gpt2"]], tmp_path / "merged", dtype="bfloat16", force=True)
    assert 1e-5 < parity.largest_logit_difference < 1
    dtypes = {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()}
    assert dtypes == {torch.bfloat16}


@pytest.mark.parametrize("name", ["distilbert-base-uncased", "gpt2"])
@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_a_quantized_base_model(run_tiny, tmp_path, name, bits):
    pytest.importorskip("bitsandbytes")
    model = {"quantization": bits}
    adapter = (
        run_tiny(name, model=model | {"name": str(wide(tmp_path, name))}, **TRAINED) / "adapter"
    )
    folder, parity = merge([adapter], tmp_path / "merged", force=True)
    assert parity.base_quantization == bits
    # 8-bit layers also round their inputs, which a merged model does not.
    assert parity.largest_logit_difference < {"4bit": 1e-4, "8bit": 0.5}[bits]
    assert parity.flipped_predictions <= {"4bit": 0, "8bit": 1}[bits]
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())


def test_a_base_model_in_bfloat16_is_merged_in_float32(run_tiny, tmp_path):
    adapter = run_tiny("gpt2", model={"dtype": "bfloat16"}, **TRAINED) / "adapter"
    folder, parity = merge([adapter], tmp_path / "merged", force=True)
    assert parity.base_dtype == "bfloat16"
    assert parity_table(parity).startswith("merged: bfloat16 base model, float32")
    assert 1e-6 < parity.largest_logit_difference < 0.5
    dtypes = {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()}
    assert dtypes == {torch.float32}


def wide(folder, name):
    sizes = {"distilbert-base-uncased": {"dim": 64, "hidden_dim": 128}, "gpt2": {"n_embd": 64}}
    return make_base(folder / "wide", name, **sizes[name])


def test_plain_transformers_loads_the_model_and_its_labels(adapters, tmp_path):
    folder, _ = merge([adapters["distilbert-base-uncased"]], tmp_path / "merged")
    code = """
import json, sys
from transformers import AutoModelForSequenceClassification, pipeline
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
found = pipeline("text-classification", model=sys.argv[1], top_k=None)(["A fine film."])[0]
assert not any(name.startswith(("lora_tune", "peft")) for name in sys.modules)
print(json.dumps([model.config.id2label, {one["label"]: one["score"] for one in found}]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    names, found = json.loads(done.stdout)
    assert names == {"0": "negative", "1": "positive"}
    from lora_tune.artifacts.saved_adapter import load_adapter

    (ours,) = load_adapter(adapters["distilbert-base-uncased"]).predict(["A fine film."])
    assert found == pytest.approx(ours.probabilities, abs=1e-5)


def test_linear_is_the_weighted_sum_of_weight_updates(adapters, second, bases, tmp_path):
    """Also of adapters with different ranks and alphas."""
    first = adapters["distilbert-base-uncased"]
    folder, parity = merge([first, second], tmp_path / "merged", weights=[0.7, 0.3])
    assert parity.combination == "linear"
    assert parity.flipped_predictions == 0
    merged = load_file(folder / "model.safetensors")
    base = load_file(bases["distilbert-base-uncased"] / "model.safetensors")
    layer = "transformer.layer.0.attention.q_lin"
    expected = base[f"{layer}.weight"].clone()
    head = 0
    for adapter, weight, scale in ((first, 0.7, 16 / 8), (second, 0.3, 8 / 4)):
        tensors = load_file(adapter / "adapter_model.safetensors")
        prefix = f"base_model.model.distilbert.{layer}.lora"
        expected += weight * scale * tensors[f"{prefix}_B.weight"] @ tensors[f"{prefix}_A.weight"]
        head = head + weight * tensors["base_model.model.classifier.weight"]
    assert torch.allclose(merged[f"distilbert.{layer}.weight"], expected, atol=1e-5)
    assert torch.allclose(merged["classifier.weight"], head, atol=1e-6)


@pytest.mark.parametrize("combination", ["ties", "dare_linear", "dare_ties"])
def test_other_combinations_keep_parity_and_are_reproducible(
    run_tiny, adapters, tmp_path, combination
):
    first = adapters["distilbert-base-uncased"]
    other = run_tiny(training=TRAINED["training"] | {"seed": 8}) / "adapter"
    files = []
    for name in ("one", "two"):
        folder, parity = merge([first, other], tmp_path / name, combination=combination)
        assert parity.flipped_predictions == 0
        files.append((folder / "model.safetensors").read_bytes())
    assert files[0] == files[1]
    linear, _ = merge([first, other], tmp_path / "linear")
    assert (linear / "model.safetensors").read_bytes() != files[0]


def test_incompatible_adapters_are_refused(adapters, second, run_tiny, rows, tmp_path):
    first = adapters["distilbert-base-uncased"]
    with pytest.raises(
        ArtifactError, match=r"cannot be combined with .*: its base model's weights"
    ):
        merge([first, adapters["gpt2"]], tmp_path / "merged")
    with pytest.raises(ArtifactError, match="--combine ties: All adapters must have the same r"):
        merge([first, second], tmp_path / "merged", combination="ties")
    with pytest.raises(ArtifactError, match=r"--weights: found .*expected 2, one for each adapter"):
        merge([first, second], tmp_path / "merged", weights=[1.0])
    assert not list(tmp_path.iterdir())


def test_a_merge_that_changes_too_much_is_refused_unless_forced(adapters, tmp_path, monkeypatch):
    """The weights are changed after merging."""

    def negate_head(adapted):
        model = merge_adapter(adapted)
        with torch.no_grad():
            for parameter in model.classifier.parameters():
                parameter.neg_()
        return model

    monkeypatch.setattr("lora_tune.artifacts.merged_model.merge_adapter", negate_head)
    source = adapters["bert-base-cased"]
    with pytest.raises(
        ArtifactError, match="differs too much from the adapter: expected at most 1% of"
    ):
        merge([source], tmp_path / "merged")
    assert not list(tmp_path.iterdir())
    _, parity = merge([source], tmp_path / "merged", force=True)
    assert parity.flipped_predictions > 0


def test_an_interrupted_merge_leaves_nothing(adapters, tmp_path, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lora_tune.artifacts.merged_model.merge_adapter", interrupt)
    with pytest.raises(KeyboardInterrupt):
        merge([adapters["gpt2"]], tmp_path / "merged")
    assert not list(tmp_path.iterdir())
