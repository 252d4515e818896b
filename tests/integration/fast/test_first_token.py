"""A last layer run for its first token only gives the model's own logits and gradients."""

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import pad

from lora_tune.config.data import DataConfig, SplitConfig
from lora_tune.config.lora import LoraConfig
from lora_tune.data.batching import make_collator, model_inputs
from lora_tune.data.splits import load_data
from lora_tune.fast.first_token import _find_attention, find_top_layer, first_token
from lora_tune.models.layers import find_layers
from lora_tune.tasks import make_task
from lora_tune.training.arguments import make_arguments
from tests.parts import RESOLVED_TRAINING, TASK, Parts
from tests.tiny import make_base

FIRST_TOKEN = ["bert-base-cased", "distilbert-base-uncased", "roberta-base", "electra"]
OTHERS = ["gpt2", "llama", "bart", "microsoft/deberta-v3-base", "answerdotai/ModernBERT-base"]
LIKE_BERT = ["roberta-prelayernorm", "mobilebert"]  # only by the names of their modules
ALL = LoraConfig(rank=4, alpha=8, dropout=0.0, target_modules="all-linear")


class Made:
    """A tiny base model with an adapter, and rows of many lengths."""

    def __init__(self, folder, *, task=TASK, **model):
        self.parts = Parts(folder, ALL, task=task, **{"dropout": 0.0} | model)
        self.model = self.parts.attach()
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.1)
        config = DataConfig(
            source="embedded:movie_reviews",
            max_length=128,
            train=SplitConfig(samples=20),
            validation=SplitConfig(fraction=0.2),
            test=SplitConfig(samples=2),
        )
        self.data = load_data(config, TASK, self.parts.tokenizer)
        self.collate = make_collator(self.parts.tokenizer, TASK, self.parts.model)
        self.folder = folder
        self.top = find_layers(self.model)[-1]

    def find(self, **training):
        arguments = make_arguments(
            RESOLVED_TRAINING | training, task=TASK, checkpoints=self.folder / "checkpoints"
        )
        return find_top_layer(
            self.model,
            self.data,
            arguments=arguments,
            task=self.parts.task,
            collate=self.collate,
        )

    def run(self, rows=(3, 8, 1, 11)):
        """Logits, and every trained parameter's gradient, of one batch."""
        inputs = self.collate(model_inputs(self.data.train.encoded[list(rows)]))
        inputs.pop("labels")
        assert not inputs["attention_mask"].all(), "choose ragged rows"
        logits = self.model(**inputs).logits
        logits.square().sum().backward()
        found = {n: p.grad.clone() for n, p in self.model.named_parameters() if p.requires_grad}
        self.model.zero_grad()
        return {"logits": logits.detach(), **found}

    def disable_head_dropout(self):
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0


def assert_same(found, expected, nearness):
    for name, tensor in expected.items():
        error = (found[name] - tensor).norm() / tensor.norm().clamp_min(1e-12)
        assert error < nearness, name
    assert any(".lora_A." in name and tensor.any() for name, tensor in expected.items())


@pytest.mark.parametrize(("dtype", "nearness"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", FIRST_TOKEN)
def test_logits_and_gradients_are_the_models_own(tmp_path, name, dtype, nearness):
    made = Made(make_base(tmp_path, name))
    made.disable_head_dropout()
    made.model.to(dtype).train()
    expected = made.run()
    assert made.find() is made.top
    assert made.model.training
    seen = []
    feed_forward = made.top.ffn if hasattr(made.top, "ffn") else made.top.intermediate
    feed_forward.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    with first_token(made.top):
        assert_same(made.run(), expected, nearness)
    assert seen == [1]
    made.run()
    assert seen[1] > 1
    assert not any("forward" in vars(module) for module in made.top.modules())


def test_attention_dropout_applies(tmp_path):
    made = Made(make_base(tmp_path, "bert-base-cased"), dropout=0.0)
    made.disable_head_dropout()
    made.model.train()
    assert made.find() is made.top
    with first_token(made.top):
        plain = made.run()["logits"]
        assert torch.equal(made.run()["logits"], plain)
        made.top.attention.self.dropout.p = 0.5
        assert not torch.allclose(made.run()["logits"], plain)
        made.model.eval()
        assert torch.allclose(made.run()["logits"], plain)


@pytest.mark.parametrize("name", [*OTHERS, *LIKE_BERT])
def test_other_architectures_are_not_patched(tmp_path, name):
    made = Made(make_base(tmp_path, name))
    assert (len(_find_attention(made.top)) == 1) == (name in LIKE_BERT)
    assert made.find() is None
    assert not any("forward" in vars(module) for module in made.model.modules())


def test_a_decoder_is_not_patched(tmp_path):
    assert Made(make_base(tmp_path, "bert-base-cased", is_decoder=True)).find() is None


def test_a_head_that_reads_every_token_is_not_patched(tmp_path):
    made = Made(make_base(tmp_path, "bert-base-cased"))
    assert made.find() is made.top
    pooler = made.model.get_base_model().bert.pooler
    own = pooler.forward
    pooler.forward = lambda states: own(states.mean(dim=1, keepdim=True))
    assert made.find() is None
    pooler.forward = own
    assert made.find() is made.top


def test_token_classification_is_not_patched(tmp_path):
    task = make_task("token_classification")
    assert Made(make_base(tmp_path, "bert-base-cased"), task=task).find() is None


def test_attention_that_reads_other_states_is_not_patched(tmp_path):
    made = Made(make_base(tmp_path, "bert-base-cased"))
    made.top.attention.self.register_forward_pre_hook(lambda _, given: (2 * given[0], *given[1:]))
    assert made.find() is None


def test_logits_of_zero_prove_nothing(tmp_path):
    made = Made(make_base(tmp_path, "bert-base-cased"))
    with torch.no_grad():
        for parameter in made.model.get_base_model().classifier.parameters():
            parameter.zero_()
    assert made.find() is None


@pytest.mark.parametrize("part", ["top", "attention"])
def test_a_layer_patched_by_another_library_is_not_patched(tmp_path, part):
    made = Made(make_base(tmp_path, "bert-base-cased"))
    module = made.top if part == "top" else made.top.attention.self
    module.forward = own = module.forward
    assert made.find() is None
    assert vars(module)["forward"] is own
    if part == "top":
        with first_token(made.top):
            assert vars(module)["forward"] is own
        assert vars(module)["forward"] is own


def test_checkpointing_and_several_processes_are_not_patched(tmp_path, monkeypatch):
    made = Made(make_base(tmp_path, "bert-base-cased"))
    assert made.find() is made.top
    assert made.find(gradient_checkpointing=True) is None
    monkeypatch.setattr("transformers.TrainingArguments.world_size", 2)
    assert made.find() is None


@pytest.mark.parametrize("layers", [None, [1]])
def test_a_run_uses_it_and_trains_the_same_adapter(run_tiny, monkeypatch, layers):
    lengths = []

    def see(states, *more):
        lengths.append(states.shape[1])
        return pad(states, *more)

    monkeypatch.setattr("lora_tune.fast.first_token.pad", see)

    def train(**more):
        folder = run_tiny(
            base="bert-base-cased",
            lora={"dropout": 0.0, "layers_to_transform": layers},
            model={"dropout": 0.0},
            training={"num_train_epochs": 2, "optim": "sgd", "learning_rate": 0.1} | more,
            reload=not more,
        )
        return load_file(folder / "adapter" / "adapter_model.safetensors")

    fast = train()
    assert len(lengths) > 10  # of training steps and validation, not only of the equivalence check
    assert set(lengths) == {1}
    lengths.clear()
    slow = train(fast=False)
    assert not lengths
    for name, tensor in slow.items():
        assert torch.allclose(fast[name], tensor, atol=1e-5), name
