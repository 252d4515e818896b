"""A run is published only if a fresh process gives the trained model's logits."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from lora_tune.artifacts import adapter_writer
from lora_tune.artifacts.manifest import TensorRecord
from lora_tune.artifacts.reload_check import check_reload, record_outputs
from lora_tune.artifacts.saved_adapter import load_adapter
from lora_tune.errors import ArtifactError

WEIGHTS = "adapter_model.safetensors"
HEAD = "base_model.model.pre_classifier.weight"


def rewrite(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def remove_a_tensor(folder):
    rewrite(folder, lambda tensors: tensors.pop(HEAD))


def change_a_value(folder):
    rewrite(folder, lambda tensors: tensors[HEAD].view(-1)[0].add_(1e-6))


def add_a_tensor(folder):
    rewrite(folder, lambda tensors: tensors.update({HEAD + "s": torch.zeros(1)}))


def shuffle_the_vocabulary(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    words = [word for word in vocabulary if not word.startswith("[")]
    vocabulary |= dict(zip(words, [vocabulary[word] for word in reversed(words)], strict=True))
    (folder / "tokenizer.json").write_text(json.dumps(content))


def test_a_run_reports_the_reload_check(run_tiny):
    shown = []
    folder = run_tiny(reload=True, show=shown.append)
    reload = json.loads((folder / "comparison.json").read_text())["reload"]
    assert reload["rows"] == 32
    assert reload["largest_logit_difference"] <= 1e-5
    assert "Reload check passed: 32 test rows in a fresh process" in "".join(shown)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (remove_a_tensor, f"does not load in a fresh process: .*lacks the tensor {HEAD}"),
        (change_a_value, f"does not load in a fresh process: .*its tensor {HEAD} was changed"),
        (add_a_tensor, f"does not load in a fresh process: .*has an unexpected tensor {HEAD}s"),
        (shuffle_the_vocabulary, "gives other outputs in a fresh process: a logit differs by"),
    ],
)
def test_an_adapter_damaged_while_saving_is_not_published(
    run_tiny, monkeypatch, tmp_path_factory, damage, words
):
    """The damage precedes the manifest, so that only the reload check can find it."""
    write = adapter_writer.write_peft_directory
    places = []

    def write_and_damage(model, folder, **more):
        written = write(model, folder, **more)
        damage(folder)
        places.append(folder)
        return written

    monkeypatch.setattr(adapter_writer, "write_peft_directory", write_and_damage)
    with pytest.raises(ArtifactError, match=words) as caught:
        run_tiny(reload=True, training={"learning_rate": 0.02})
    assert "\n" not in str(caught.value)
    assert "The last checkpoints are in" in caught.value.__notes__[0]
    (adapter,) = places
    assert ".incomplete" in str(adapter)
    assert not (adapter.parents[1] / "out").exists()


def test_a_tensor_that_differs_from_the_trained_one_is_named(run_tiny):
    """The trained tensors or outputs are changed, since a change in the files is found before."""
    adapter = run_tiny() / "adapter"
    trained = record_outputs(load_adapter(adapter), ["A fine film."])
    check_reload(adapter, trained)
    other = dict(trained.tensors)
    other[HEAD] = TensorRecord(other[HEAD].shape, "0" * 64)
    words = f"the saved adapter is not the trained one: the tensor {HEAD} differs"
    with pytest.raises(ArtifactError, match=words):
        check_reload(adapter, replace(trained, tensors=other))
    moved = replace(trained, outputs=[row + 0.01 for row in trained.outputs])
    with pytest.raises(
        ArtifactError, match="gives other outputs in a fresh process: a logit differs"
    ):
        check_reload(adapter, moved)
