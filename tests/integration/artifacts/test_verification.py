"""A changed or incomplete adapter directory is refused, in one line that says what is wrong."""

import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from lora_tune.artifacts.manifest import read_manifest, render_manifest
from lora_tune.artifacts.saved_adapter import find_adapter, load_adapter
from lora_tune.artifacts.verification import verify_files
from lora_tune.cli import main
from lora_tune.commands.push import prepare_upload
from lora_tune.errors import ArtifactError
from tests.parts import Parts
from tests.tiny import make_base

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def intact(bases, tmp_path_factory):
    parts = Parts(bases["distilbert-base-uncased"])
    parts.attach()
    folder = tmp_path_factory.mktemp("intact") / "adapter"
    parts.save(folder)
    return folder


@pytest.fixture
def adapter(intact, tmp_path):
    return shutil.copytree(intact, tmp_path / "adapter")


def rewrite(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def remove_head_tensor(folder):
    rewrite(folder, lambda tensors: tensors.pop("base_model.model.pre_classifier.weight"))


def add_a_tensor(folder):
    rewrite(folder, lambda tensors: tensors.update(extra=torch.zeros(1)))


def write_nan(folder):
    rewrite(folder, lambda t: t["base_model.model.classifier.weight"].view(-1)[0].fill_(torch.nan))


def widen_head(folder):
    head = "base_model.model.classifier.bias"
    rewrite(folder, lambda tensors: tensors.update({head: torch.zeros(5)}))


def flip_a_byte_of_the_weights(folder):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)


def truncate_weights(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def delete_labels(folder):
    (folder / "labels.json").unlink()


def remove_a_label(folder):
    (folder / "labels.json").write_text(json.dumps(["bad", "mixed"]))


def swap_labels(folder):
    (folder / "labels.json").write_text(json.dumps(["fine", "mixed", "bad"]))


def leave_a_pickle_only(folder):
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")


def delete_manifest(folder):
    (folder / "manifest.json").unlink()


def corrupt_manifest(folder):
    (folder / "manifest.json").write_text("{")


def edit_manifest(folder, change):
    """Change a manifest and its own hash with it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(render_manifest(manifest))


def list_a_path_outside(folder):
    edit_manifest(folder, lambda m: m["files"].update({"../../.env": m["files"]["labels.json"]}))


def list_a_pattern(folder):
    edit_manifest(folder, lambda m: m["files"].update({"*": m["files"]["labels.json"]}))


def list_a_pickle(folder):
    edit_manifest(folder, lambda m: m["files"].update({"more.bin": m["files"]["labels.json"]}))


def name_another_base(folder):
    edit_manifest(folder, lambda m: m["base"].update(name="another/base"))


def replace_manifest(folder):
    (folder / "manifest.json").write_text("[]")


DAMAGES = [
    (remove_head_tensor, "lacks the tensor base_model.model.pre_classifier.weight"),
    (add_a_tensor, "has an unexpected tensor extra"),
    (write_nan, "base_model.model.classifier.weight contains NaN or infinite values"),
    (widen_head, "base_model.model.classifier.bias has shape [5], expected [3]"),
    (flip_a_byte_of_the_weights, ".weight was changed since training"),
    (truncate_weights, "is truncated: "),
    (delete_labels, "labels.json: does not exist, but manifest.json lists it"),
    (
        remove_a_label,
        'found ["bad", "mixed"], but the adapter was trained with ["bad", "mixed", "fi',
    ),
    (swap_labels, 'found ["fine", "mixed", "bad"], but the adapter was trained with ["bad", "mix'),
    (
        leave_a_pickle_only,
        "has no adapter_model.safetensors; found adapter_model.bin, a pickle",
    ),
    (delete_manifest, "has no manifest.json, so its files cannot be verified"),
    (corrupt_manifest, "manifest.json: damaged: Expecting property name"),
    (replace_manifest, "manifest.json: damaged: not a manifest of lora_tune"),
    (
        list_a_path_outside,
        "manifest.json: damaged: it lists '../../.env', which is not a file of",
    ),
    (list_a_pattern, "manifest.json: damaged: it lists '*', which is not a file of"),
    (list_a_pickle, "manifest.json: damaged: it lists 'more.bin', which is not a file of"),
    (name_another_base, "adapter_config.json: found "),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGES)
def test_each_kind_of_damage_is_reported(adapter, damage, words):
    verify_files(adapter)
    damage(adapter)
    with pytest.raises(ArtifactError) as caught:
        verify_files(adapter)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_flipped_byte_in_any_file_but_the_card_is_found(intact, tmp_path):
    names = [path.name for path in intact.iterdir() if path.name != "README.md"]
    assert {"adapter_config.json", WEIGHTS, "tokenizer.json", "manifest.json"} < set(names)
    for name in names:
        adapter = shutil.copytree(intact, tmp_path / name)
        content = bytearray((adapter / name).read_bytes())
        content[len(content) // 2] ^= 1
        (adapter / name).write_bytes(content)
        with pytest.raises(ArtifactError, match=name.split(".")[0]):
            verify_files(adapter)


def test_a_flipped_byte_anywhere_in_the_manifest_is_found(adapter):
    content = (adapter / "manifest.json").read_bytes()
    for place in range(0, len(content), 7):
        for bit in (1, 8):
            flipped = bytearray(content)
            flipped[place] ^= bit
            (adapter / "manifest.json").write_bytes(flipped)
            with pytest.raises(ArtifactError):
                read_manifest(adapter)
    (adapter / "manifest.json").write_bytes(content)
    read_manifest(adapter)


def test_another_peft_method_is_refused(bases, adapter):
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"peft_type": "XLORA"}))
    digest = hashlib.sha256((adapter / "adapter_config.json").read_bytes()).hexdigest()
    edit_manifest(adapter, lambda m: m["files"]["adapter_config.json"].update(sha256=digest))
    with pytest.raises(ArtifactError, match="found 'XLORA' as peft_type, expected LORA"):
        load_adapter(adapter)


def test_the_card_may_be_edited(adapter):
    (adapter / "README.md").write_text("My own words.")
    verify_files(adapter)


@pytest.mark.parametrize("verb", ["predict", "evaluate", "merge", "push"])
def test_every_verb_verifies_first(adapter, tmp_path, verb, capsys):
    flip_a_byte_of_the_weights(adapter)
    more = {
        "predict": ["--text", "x"],
        "evaluate": [],
        "merge": ["--output", str(tmp_path / "merged")],
        "push": ["me/mine", "--dry-run"],
    }
    assert main([verb, str(adapter), *more[verb]]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "was changed since training" in captured.err
    assert captured.out == ""
    assert not (tmp_path / "merged").exists()


def test_another_base_model_in_its_place_is_refused(bases, tmp_path):
    place = shutil.copytree(bases["distilbert-base-uncased"], tmp_path / "base")
    parts = Parts(place)
    parts.attach()
    parts.save(tmp_path / "adapter")
    load_adapter(tmp_path / "adapter")
    other = make_base(tmp_path / "other", "distilbert-base-uncased", seed=1)
    shutil.copy(other / "model.safetensors", place / "model.safetensors")
    with pytest.raises(
        ArtifactError, match="not the base model that the adapter was trained on: the SHA"
    ):
        load_adapter(tmp_path / "adapter")


def test_a_base_model_with_another_configuration_is_refused(bases, tmp_path):
    place = shutil.copytree(bases["distilbert-base-uncased"], tmp_path / "base")
    parts = Parts(place)
    parts.attach()
    parts.save(tmp_path / "adapter")
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"transformers_version": "9.9"}))
    load_adapter(tmp_path / "adapter")
    (place / "config.json").write_text(json.dumps(config | {"activation": "relu"}))
    with pytest.raises(ArtifactError, match=r"weights are the same, but config.json differs"):
        load_adapter(tmp_path / "adapter")
    (place / "config.json").write_text(json.dumps(config))
    shutil.copy(place / "model.safetensors", place / "model.more.safetensors")
    with pytest.raises(ArtifactError, match=r"SHA-256 of model.more.safetensors .* no such file"):
        load_adapter(tmp_path / "adapter")


def test_a_base_model_that_has_moved_can_be_named(bases, tmp_path):
    place = shutil.copytree(bases["distilbert-base-uncased"], tmp_path / "base")
    parts = Parts(place)
    parts.attach()
    parts.save(tmp_path / "adapter")
    before = load_adapter(tmp_path / "adapter").predict(["A text."])
    moved = place.rename(tmp_path / "moved")
    with pytest.raises(ArtifactError, match="does not exist; name it with --base DIR"):
        load_adapter(tmp_path / "adapter")
    assert load_adapter(tmp_path / "adapter", base=str(moved)).predict(["A text."]) == before


def test_weights_that_do_not_fit_the_base_model_are_refused_on_loading(bases, tmp_path):
    """The manifest itself was made for weights that lack a tensor."""
    lost = "base_model.model.pre_classifier.weight"
    parts = Parts(bases["distilbert-base-uncased"])
    parts.attach()
    parts.save(tmp_path / "adapter")
    remove_head_tensor(tmp_path / "adapter")
    parts.write_manifest(tmp_path / "adapter")
    edit_manifest(tmp_path / "adapter", lambda manifest: manifest["tensors"].pop(lost))
    find_adapter(tmp_path / "adapter")
    with pytest.raises(ArtifactError, match=r"lacks the tensor .*pre_classifier.weight"):
        load_adapter(tmp_path / "adapter")


def test_a_card_that_is_a_link_or_not_text_is_not_uploaded(adapter, tmp_path):
    (tmp_path / "private.txt").write_text("mine")
    (adapter / "README.md").unlink()
    (adapter / "README.md").symlink_to(tmp_path / "private.txt")
    with pytest.raises(
        ArtifactError, match=r"links to .*private.txt, expected a file in the same dir"
    ):
        prepare_upload(adapter, "me/mine")
    (adapter / "README.md").unlink()
    (adapter / "README.md").write_bytes(b"caf\xe9")
    with pytest.raises(ArtifactError, match="is not UTF-8"):
        prepare_upload(adapter, "me/mine")


def test_other_files_in_the_directory_are_not_uploaded(adapter):
    (adapter / ".env").write_text("SECRET=1")
    (adapter / "training_args.bin").write_bytes(b"pickle")
    (adapter / "notes.txt").write_text("mine")
    upload = prepare_upload(adapter, "me/mine")
    assert set(upload.files) == {
        "README.md",
        "adapter_config.json",
        WEIGHTS,
        "labels.json",
        "manifest.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
