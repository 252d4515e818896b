"""A run is complete only when a fresh process, given what was saved, answers as was trained."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import lora_tune.run
from lora_tune.errors import ArtifactError
from lora_tune.manifest import TensorRecord
from lora_tune.predictor import load_adapter
from lora_tune.reload import check_reload, record_answers

WEIGHTS = "adapter_model.safetensors"
HEAD = "base_model.model.pre_classifier.weight"


def rewrite(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def lose_the_head(folder):
    rewrite(folder, lambda tensors: tensors.pop(HEAD))


def change_a_number(folder):
    rewrite(folder, lambda tensors: tensors[HEAD].view(-1)[0].add_(1e-6))


def add_a_tensor(folder):
    rewrite(folder, lambda tensors: tensors.update({HEAD + "s": torch.zeros(1)}))


def break_the_tokenizer(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    words = [word for word in vocabulary if not word.startswith("[")]
    vocabulary |= dict(zip(words, [vocabulary[word] for word in reversed(words)], strict=True))
    (folder / "tokenizer.json").write_text(json.dumps(content))


def test_a_sound_run_says_so(run_tiny):
    shown = []
    folder = run_tiny(reload=True, show=shown.append)
    reload = json.loads((folder / "comparison.json").read_text())["reload"]
    assert reload["rows"] == 32
    assert reload["largest_logit_difference"] <= 1e-5
    assert "Loaded again in a fresh process, the adapter answers alike: 32 test rows" in "".join(
        shown
    )


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lose_the_head, f"does not load in a fresh process: .*lacks the tensor {HEAD}"),
        (change_a_number, f"does not load in a fresh process: .*its tensor {HEAD} was changed"),
        (add_a_tensor, f"does not load in a fresh process: .*has no place for the tensor {HEAD}s"),
        (break_the_tokenizer, "answers otherwise in a fresh process: a logit differs by"),
    ],
)
def test_what_saving_breaks_is_not_published(
    run_tiny, monkeypatch, tmp_path_factory, damage, words
):
    """The damage comes before the manifest is written, so that only the gate can see it."""
    save = lora_tune.run.save_adapter
    places = []

    def save_and_break(model, folder, **more):
        written = save(model, folder, **more)
        damage(folder)
        places.append(folder)
        return written

    monkeypatch.setattr(lora_tune.run, "save_adapter", save_and_break)
    with pytest.raises(ArtifactError, match=words) as caught:
        run_tiny(reload=True, training={"learning_rate": 0.02})
    assert "\n" not in str(caught.value)
    assert "The last checkpoints are in" in caught.value.__notes__[0]
    (adapter,) = places
    assert ".incomplete" in str(adapter)
    assert not (adapter.parents[1] / "out").exists()


def test_a_tensor_that_loads_otherwise_than_it_was_trained_is_named(run_tiny):
    """What no file can tell: here the trained model is said to have been another."""
    adapter = run_tiny() / "adapter"
    trained = record_answers(load_adapter(adapter), ["A fine film."])
    check_reload(adapter, trained)
    other = dict(trained.tensors)
    other[HEAD] = TensorRecord(other[HEAD].shape, "0" * 64)
    words = f"the saved adapter is not the trained one: the tensor {HEAD} differs"
    with pytest.raises(ArtifactError, match=words):
        check_reload(adapter, replace(trained, tensors=other))
    moved = replace(trained, answers=[row + 0.01 for row in trained.answers])
    with pytest.raises(
        ArtifactError, match="answers otherwise in a fresh process: a logit differs"
    ):
        check_reload(adapter, moved)
