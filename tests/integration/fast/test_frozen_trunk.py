"""Cached states of the frozen layers replace them and change nothing but the time it takes."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers.pytorch_utils import Conv1D

from lora_tune.config.data import DataConfig, SplitConfig
from lora_tune.config.lora import LoraConfig
from lora_tune.data.batching import make_collator, model_inputs
from lora_tune.data.splits import load_data
from lora_tune.fast.frozen_trunk import find_trunk
from lora_tune.models.layers import find_layers, unfreeze_layers
from lora_tune.training.training import train_model
from tests.parts import TASK, Parts
from tests.tiny import make_base

BASES = ["bert-base-cased", "distilbert-base-uncased", "roberta-base", "gpt2", "llama"]
TOP = {"rank": 4, "alpha": 8, "dropout": 0.0, "layers_to_transform": [1]}
TRAIN, VALIDATION = 16, 8
# Rows of the equivalence checks: two rows three times for the trunk, twice for the first token.
CHECK_ROWS = 10


class Trainable:
    """A tiny base model with an adapter in its top layer, and rows of many lengths."""

    def __init__(self, folder, lora=None, dropout=0.0):
        self.parts = Parts(folder, LoraConfig(**TOP | (lora or {})), dropout=dropout)
        self.parts.attach()
        self.parts.train_a_little()
        self.model = self.parts.adapted
        splits = {"train": TRAIN, "validation": VALIDATION, "test": 2}
        config = DataConfig(
            source="embedded:movie_reviews",
            max_length=256,  # letters, in some of the vocabularies
            train=SplitConfig(samples=TRAIN + VALIDATION),
            validation=SplitConfig(fraction=VALIDATION / sum([TRAIN, VALIDATION])),
            test=SplitConfig(samples=splits["test"]),
        )
        self.data = load_data(config, TASK, self.parts.tokenizer)
        self.collate = make_collator(self.parts.tokenizer, TASK, self.parts.model)

    def find_trunk(self):
        return find_trunk(self.model, self.data, task=TASK, collate=self.collate)

    def batch(self, rows):
        inputs = self.collate(model_inputs(self.data.train.encoded[rows]))
        inputs.pop("labels")
        return inputs

    def gradients(self, rows):
        """Logits, and every trained parameter's gradient, of one batch."""
        logits = self.model(**self.batch(rows)).logits
        torch.nn.functional.cross_entropy(logits, torch.arange(len(rows)) % 2).backward()
        found = {n: p.grad.clone() for n, p in self.model.named_parameters() if p.requires_grad}
        self.model.zero_grad()
        return logits.detach(), found

    def train(self, folder, **training):
        """Train for three epochs; returns how many rows went through the lowest layer."""
        rows = []
        (lowest, *_) = self.inside_lowest()
        hook = lowest.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
        settings = {"per_device_train_batch_size": 4} | training
        context = self.parts.context(self.data, folder, **settings)
        train_model(context, "lora", self.model, {"seed": 42})
        hook.remove()
        return sum(rows)

    def inside_lowest(self):
        """The linear layers of the lowest layer, which are not patched."""
        layers = find_layers(self.model)
        kinds = (torch.nn.Linear, Conv1D)
        return [m for m in layers[0].modules() if isinstance(m, kinds)]


@pytest.fixture(scope="module", params=BASES)
def trainable(request, tmp_path_factory):
    return Trainable(make_base(tmp_path_factory.mktemp("base"), request.param))


@pytest.mark.parametrize(("dtype", "nearness"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_gradients_are_those_of_the_whole_model(trainable, dtype, nearness):
    trainable.model.to(dtype).train()
    for module in trainable.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # the head's own
    mixed = [3, 8, 1, 11, 8]  # of both batches, padded differently, and one row twice
    logits, expected = trainable.gradients(mixed)
    assert not trainable.batch(mixed)["attention_mask"].all(), "choose ragged rows"
    trunk = trainable.find_trunk()
    assert len(trunk.layers) == 1
    with trunk.patched(trainable.model):
        trainable.gradients([0, 1, 2, 3, 4, 5])
        with torch.inference_mode():  # as in validation
            trainable.model(**trainable.batch([6, 7, 8, 9, 10, 11]))
        assert len(trunk.cache) == 12
        inner = trainable.inside_lowest()
        ran = []
        hooks = [layer.register_forward_hook(lambda *_: ran.append(1)) for layer in inner]
        found_logits, found = trainable.gradients(mixed)
        for hook in hooks:
            hook.remove()
    assert not ran
    assert torch.allclose(found_logits, logits, rtol=nearness, atol=nearness)
    for name, gradient in expected.items():
        error = (found[name] - gradient).norm() / gradient.norm().clamp_min(1e-12)
        assert error < nearness, name
    assert any(".lora_A." in name and gradient.any() for name, gradient in expected.items())


def test_a_row_that_is_not_cached_goes_through_all_layers(trainable):
    trainable.model.float().eval()
    whole = trainable.model(**trainable.batch([12, 13])).logits
    trunk = trainable.find_trunk()
    with trunk.patched(trainable.model):
        trainable.model(**trainable.batch([12]))
        assert torch.allclose(trainable.model(**trainable.batch([12, 13])).logits, whole, atol=1e-5)
    assert not any("forward" in vars(module) for module in trainable.model.modules())


def test_each_row_goes_through_the_trunk_once(tmp_path):
    made = Trainable(make_base(tmp_path / "base", "distilbert-base-uncased"))
    assert made.train(tmp_path / "fast") == TRAIN + VALIDATION + CHECK_ROWS
    assert made.train(tmp_path / "plain", fast=False) == 3 * (TRAIN + VALIDATION)
    # In bfloat16 the cached states are those of the layers under autocast.
    assert made.train(tmp_path / "half", bf16=True) == TRAIN + VALIDATION + CHECK_ROWS
    assert not any("forward" in vars(layer) for layer in find_layers(made.model))
    assert not made.model._forward_pre_hooks
    assert not made.model._forward_hooks


@pytest.mark.parametrize(
    "training",
    [{"num_train_epochs": 1}, {"gradient_checkpointing": True}, {"neftune_noise_alpha": 5.0}],
    ids=str,
)
def test_nothing_is_cached_where_it_saves_nothing(tmp_path, monkeypatch, training):
    made = Trainable(make_base(tmp_path / "base", "bert-base-cased"))
    monkeypatch.setattr("lora_tune.fast.frozen_trunk.find_trunk", None)
    made.train(tmp_path / "out", **training)


@pytest.mark.parametrize(
    "lora",
    [{"layers_to_transform": [0, 1]}, {"bias": "all"}, {"modules_to_save": ["word_embeddings"]}],
    ids=str,
)
def test_trained_parameters_below_prevent_caching(tmp_path, lora):
    base = make_base(tmp_path, "bert-base-cased")
    assert Trainable(base).find_trunk() is not None
    assert Trainable(base, lora).find_trunk() is None


def test_randomness_prevents_caching(tmp_path):
    base = make_base(tmp_path, "bert-base-cased")
    assert Trainable(base, dropout=None).find_trunk() is None
    made = Trainable(base)
    made.model.config.layerdrop = 0.1
    assert made.find_trunk() is None
    made.model.config.layerdrop = 0.0
    assert made.find_trunk() is not None
    (dropout, *_) = [m for m in made.model.modules() if isinstance(m, torch.nn.Dropout)]
    dropout.p = 0.01  # of the embeddings, which the configuration does not show
    assert made.find_trunk() is None


def test_positions_that_depend_on_padding_prevent_caching(tmp_path):
    made = Trainable(make_base(tmp_path, "gpt2"))
    assert made.find_trunk() is not None
    made.parts.tokenizer.padding_side = "left"  # GPT-2 counts padding in its positions
    assert made.find_trunk() is None


def test_values_passed_around_the_states_prevent_caching(tmp_path):
    made = Trainable(make_base(tmp_path, "bert-base-cased"))
    (lowest, *_), (_, top) = made.inside_lowest(), find_layers(made.model)
    seen = []
    lowest.register_forward_hook(lambda _, __, out: seen.append(10 * out[0].mean(dim=0)))
    top.register_forward_pre_hook(lambda _, inputs: (inputs[0] + seen[-1], *inputs[1:]))
    assert made.find_trunk() is None


def test_states_beyond_the_memory_limit_are_not_cached(tmp_path, monkeypatch):
    made = Trainable(make_base(tmp_path, "bert-base-cased"))
    splits = made.data.train, made.data.validation
    size = sum(sum(split.encoded["length"]) for split in splits) * 32 * 4
    monkeypatch.setattr("lora_tune.fast.frozen_trunk.MAX_BYTES", size)
    assert made.find_trunk() is not None
    monkeypatch.setattr("lora_tune.fast.frozen_trunk.MAX_BYTES", size - 1)
    assert made.find_trunk() is None


def test_last_layers_and_a_head_alone_have_a_trunk_too(tmp_path):
    made = Trainable(make_base(tmp_path, "distilbert-base-uncased"))
    made.model = made.parts.model = made.model.unload()
    unfreeze_layers(made.model, 1)
    assert len(made.find_trunk().layers) == 1
    unfreeze_layers(made.model, 2)
    assert made.find_trunk() is None
    made.model.base_model.requires_grad_(False)
    assert len(made.find_trunk().layers) == 2


def test_an_encoder_decoder_is_not_cached(tmp_path):
    made = Trainable(make_base(tmp_path, "bert-base-cased"))
    made.model.config.is_encoder_decoder = True
    assert made.find_trunk() is None


def test_the_adapter_is_the_same_without_it_and_loads(run_tiny):
    def train(**more):
        folder = run_tiny(
            base="gpt2",  # its head has no dropout of its own
            lora={"dropout": 0.0, "layers_to_transform": [1]},
            model={"dropout": 0.0},
            training={"num_train_epochs": 3, "optim": "sgd", "learning_rate": 0.1} | more,
            reload=not more,
        )
        history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        return load_file(folder / "adapter" / "adapter_model.safetensors"), history

    (fast, lines), (plain, expected) = train(), train(fast=False)
    for name, tensor in plain.items():
        assert torch.allclose(fast[name], tensor, atol=1e-5), name
    for line, other in zip(lines, expected, strict=True):
        assert line == pytest.approx(other, abs=1e-5)
