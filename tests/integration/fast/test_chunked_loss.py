"""The chunked loss and its gradients are those of the whole logits, for labeled tokens only."""

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy, linear
from transformers import Trainer

from lora_tune.config.lora import LoraConfig
from lora_tune.data.batching import IGNORE_INDEX, make_collator, model_inputs
from lora_tune.fast import chunked_loss
from lora_tune.fast.chunked_loss import (
    ChunkedLoss,
    find_output_layer,
    skipped_output_layer,
    sum_losses,
)
from lora_tune.tasks import make_task
from lora_tune.tasks.token_loss import token_loss
from lora_tune.training.arguments import make_arguments
from lora_tune.training.trainer import AdapterTrainer
from tests.parts import RESOLVED_TRAINING, Parts
from tests.tiny import make_base, reviews

LANGUAGE_MODELS = {
    "gpt2": "causal_lm",
    "llama": "causal_lm",
    "Qwen/Qwen2.5-1.5B-Instruct": "causal_lm",
    "tiiuae/falcon-7b": "causal_lm",
    "google/flan-t5-base": "seq2seq_lm",
}


class Made:
    """A tiny language model with an adapter, and rows of prompts and completions."""

    def __init__(self, folder, name, task, **lora):
        task = make_task(task)
        lora = {"target_modules": "all-linear", "dropout": 0.0} | lora
        self.parts = Parts(make_base(folder, name), LoraConfig(rank=4, **lora), task=task)
        self.task, self.model, self.folder = task, self.parts.attach(), folder
        torch.manual_seed(0)
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.1)
        encoded = self.parts.tokenizer(reviews()[0][:8], truncation=True)
        ids = encoded["input_ids"]
        columns = {"input_ids": ids, "attention_mask": encoded["attention_mask"]}
        # A decoder learns what follows a prompt, an encoder-decoder a shorter completion.
        columns["labels"] = [
            row[:7]
            if task.generation.is_encoder_decoder
            else [IGNORE_INDEX] * (2 + n) + row[2 + n :]
            for n, row in enumerate(ids)
        ]
        rows = Dataset.from_dict(columns | {"length": [len(row) for row in ids]})
        self.data = type("Data", (), {"train": type("Split", (), {"encoded": rows})})
        self.collate = make_collator(self.parts.tokenizer, task, self.parts.model)

    def find(self, **training):
        arguments = make_arguments(
            RESOLVED_TRAINING | training, task=self.task, checkpoints=self.folder / "checkpoints"
        )
        return find_output_layer(self.model, self.data, arguments=arguments, collate=self.collate)

    def run(self, layer, smoothing=0.0):
        """The loss, and every trained parameter's gradient, of one batch."""
        inputs = self.collate(model_inputs(self.data.train.encoded[:]))
        labels = inputs.pop("labels")
        with skipped_output_layer(layer):
            outputs = self.model(**inputs).logits
        states, targets = self.task.generation.align_labels(outputs, labels)
        if layer is None:
            # The task's own loss, but computed in the dtype of the states instead of float32.
            own = states.flatten(0, 1), targets.flatten()
            loss = cross_entropy(*own, reduction="sum", label_smoothing=smoothing)
        else:
            dtype = layer.weight.dtype
            loss = sum_losses(
                states, targets, layer=layer, cast=None, dtype=dtype, smoothing=smoothing
            )
        loss.backward()
        found = {n: p.grad.clone() for n, p in self.model.named_parameters() if p.requires_grad}
        self.model.zero_grad()
        return {"loss": loss.detach(), **found}


def assert_same(found, expected, nearness):
    for name, tensor in expected.items():
        error = (found[name] - tensor).norm() / tensor.norm().clamp_min(1e-12)
        assert error < nearness, name
    assert any(".lora_A." in name and tensor.any() for name, tensor in expected.items())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("at_once", [1, 27, 1 << 24])  # one token, three tokens, all
def test_loss_and_gradient_follow_the_formula(monkeypatch, at_once, smoothing):
    monkeypatch.setattr(chunked_loss, "MAX_CPU_LOGITS", at_once)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    x, weight, bias = draw(7, 5).requires_grad_(), draw(9, 5), draw(9)
    targets = torch.arange(7)
    for b in (bias, None):
        found = ChunkedLoss.apply(x, weight, b, targets, smoothing)
        logits = linear(x, weight, b)
        expected = cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
        assert torch.allclose(found, expected, rtol=1e-12)
        assert torch.autograd.gradcheck(ChunkedLoss.apply, (x, weight, b, targets, smoothing))
    share = torch.autograd.grad(ChunkedLoss.apply(x, weight, None, targets, smoothing) / 3, x)[0]
    whole = torch.autograd.grad(ChunkedLoss.apply(x, weight, None, targets, smoothing), x)[0]
    assert torch.allclose(share, whole / 3)


def test_tokens_without_labels_have_no_loss():
    x = torch.randn(1, 3, 5, requires_grad=True)
    layer = torch.nn.Linear(5, 9).requires_grad_(False)
    none = torch.full((1, 3), IGNORE_INDEX)
    loss = sum_losses(x, none, layer=layer, cast=None, dtype=torch.float32, smoothing=0.0)
    loss.backward()
    assert loss == 0
    assert not x.grad.any()


@pytest.mark.parametrize(("dtype", "nearness"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_loss_and_gradients_are_those_of_the_models_logits(
    tmp_path, monkeypatch, name, dtype, nearness
):
    made = Made(tmp_path, name, LANGUAGE_MODELS[name])
    made.model.to(dtype).train()
    for module in made.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    layer = made.find()
    assert layer is made.model.get_output_embeddings()
    assert made.model.training
    monkeypatch.setattr(chunked_loss, "MAX_CPU_LOGITS", 3 * len(layer.weight))
    tokens = []
    plain = chunked_loss.linear
    monkeypatch.setattr(chunked_loss, "linear", lambda x, *w: tokens.append(len(x)) or plain(x, *w))
    for smoothing in (0.0, 0.1):
        expected = made.run(None, smoothing)
        assert_same(made.run(layer, smoothing), expected, nearness)
    labels = made.collate(model_inputs(made.data.train.encoded[:]))["labels"]
    _, targets = made.task.generation.align_labels(labels[..., None], labels)
    assert sum(tokens) == 2 * (targets != IGNORE_INDEX).sum(), "labeled tokens only"
    assert max(tokens) == 3
    assert "forward" not in vars(layer)


def test_loss_is_the_tasks_own(tmp_path):
    made = Made(tmp_path, "gpt2", "causal_lm")
    inputs = made.collate(model_inputs(made.data.train.encoded[:]))
    labels = inputs.pop("labels")
    logits = made.model(**inputs).logits
    expected = token_loss(
        *made.task.generation.align_labels(logits, labels), items=17, smoothing=0.0
    )
    assert torch.allclose(made.run(made.find())["loss"] / 17, expected, rtol=1e-5)


def test_a_model_that_adds_to_its_logits_is_not_patched(tmp_path):
    assert Made(tmp_path, "bart", "seq2seq_lm").find() is None


def change_logits(made, change):
    """Let a model change its logits, as some architectures do."""
    model = made.model.get_base_model()
    own = model.forward

    def forward(**named):
        outputs = own(**named)
        outputs.logits = change(outputs.logits)
        return outputs

    model.forward = forward


@pytest.mark.parametrize("cap", [3.0, 30.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_caps_its_logits_is_not_patched(tmp_path, cap, dtype):
    made = Made(tmp_path, "gpt2", "causal_lm")
    made.model.to(dtype)
    assert made.find() is not None
    change_logits(made, lambda logits: cap * (logits / cap).tanh())
    assert made.find() is None


def test_a_model_that_scales_its_logits_keeps_its_own_loss(tmp_path):
    made = Made(tmp_path, "gpt2", "causal_lm")
    change_logits(made, lambda logits: logits / 3)
    assert_same(made.run(made.find()), made.run(None), 1e-5)


def test_an_output_layer_tied_to_trained_embeddings_is_not_patched(tmp_path):
    made = Made(tmp_path, "gpt2", "causal_lm")
    made.model.get_base_model().get_input_embeddings().weight.requires_grad_(True)
    assert made.find() is None


def test_several_processes_are_not_patched(tmp_path, monkeypatch):
    made = Made(tmp_path, "gpt2", "causal_lm")
    assert made.find(gradient_checkpointing=True) is not None
    with monkeypatch.context() as patch:
        patch.setattr("transformers.TrainingArguments.world_size", 2)
        assert made.find() is None
    with monkeypatch.context() as patch:
        patch.setattr("transformers.TrainingArguments.n_gpu", 2)
        assert made.find() is None


def test_float16_with_loss_scaling_is_not_patched(tmp_path, monkeypatch):
    made = Made(tmp_path, "gpt2", "causal_lm")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    assert made.find() is None


def test_a_base_model_in_float16_is_patched(tmp_path):
    made = Made(tmp_path, "gpt2", "causal_lm")
    made.model.half()
    assert made.find() is not None


@pytest.mark.parametrize("kind", [None, "is_deepspeed_enabled", "is_fsdp_enabled"])
def test_sharded_weights_are_not_patched(run_tiny, monkeypatch, kind):
    calls = []
    monkeypatch.setattr(
        "lora_tune.fast.acceleration.find_output_layer", lambda *_, **__: calls.append(1)
    )
    own = AdapterTrainer.__init__

    def make(trainer, *arguments, **named):
        own(trainer, *arguments, **named)
        if kind is not None:
            setattr(trainer, kind, True)

    monkeypatch.setattr(AdapterTrainer, "__init__", make)
    monkeypatch.setattr(Trainer, "train", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_tiny(base="gpt2", overrides=["task=causal_lm", "data.labels=null"])
    assert calls == ([1] if kind is None else [])


@pytest.mark.parametrize("bf16", [False, True])
def test_a_run_uses_it_and_trains_the_same_adapter(run_tiny, monkeypatch, bf16):
    tokens = []
    plain = chunked_loss.linear
    monkeypatch.setattr(
        chunked_loss, "linear", lambda x, *w: tokens.append(x.dtype) or plain(x, *w)
    )

    def train(**more):
        training = {"num_train_epochs": 2, "optim": "sgd", "learning_rate": 0.1, "bf16": bf16}
        folder = run_tiny(
            base="gpt2",
            overrides=["task=causal_lm", "data.labels=null"],
            lora={"dropout": 0.0},
            model={"dropout": 0.0},
            training=training | more,
        )
        return load_file(folder / "adapter" / "adapter_model.safetensors")

    fast = train()
    assert tokens.count(torch.bfloat16 if bf16 else torch.float32) > 10
    tokens.clear()
    slow = train(fast=False)
    assert not tokens
    moved = {name: tensor for name, tensor in slow.items() if "lora_B" in name}
    for name, tensor in moved.items():  # B starts at zero
        error = (fast[name] - tensor).norm() / tensor.norm()
        assert error < (0.05 if bf16 else 1e-4), name
