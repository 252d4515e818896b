"""A batch that is split into micro-batches has the gradients of the whole batch."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from transformers import Trainer

from lora_tune.config.lora import LoraConfig
from lora_tune.data.batching import WIDTH_MULTIPLE, split_batch, widen
from lora_tune.fast.acceleration import accelerated
from lora_tune.training.arguments import make_arguments
from lora_tune.training.trainer import AdapterTrainer
from tests.integration.task_rows import BASES, make_parts, tokenize_rows
from tests.parts import RESOLVED_TRAINING
from tests.tiny import make_base, reviews


def make_trainer(parts, rows, folder, weights=None, **settings):
    split = SimpleNamespace(encoded=rows)
    data = SimpleNamespace(train=split, validation=split, class_weights=weights)
    context = parts.context(data, folder, **settings)
    settings = context.recipe.training
    arguments = make_arguments(settings, task=parts.task, checkpoints=folder)
    return AdapterTrainer(parts.adapted, arguments, context=context, settings=settings)


def gradients(model):
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
def test_micro_batches_have_the_gradients_of_the_whole(
    name, dtype, tolerance, tmp_path, monkeypatch
):
    lora = LoraConfig(rank=4, alpha=8, dropout=0.0)
    parts = make_parts(make_base(tmp_path / "base", BASES[name]), name, lora, dropout=0.0)
    parts.attach()
    torch.manual_seed(1)
    for parameter in (p for p in parts.adapted.parameters() if p.requires_grad):
        torch.nn.init.normal_(parameter, std=0.1)  # else no gradient reaches A
    for module in parts.adapted.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # the head's own
    texts = [text[: 20 + 16 * n] for n, text in enumerate(reviews()[0][:8])]
    encoded = tokenize_rows(parts, texts, truncation=True, max_length=64)
    rows = Dataset.from_dict(encoded | {"length": [len(ids) for ids in encoded["input_ids"]]})
    weights = [1.0, 2.0, 0.5] if name == "sequence_classification" else None
    smoothing = 0.0 if name == "multi_label_classification" else 0.1  # which Trainer refuses
    trainer = make_trainer(parts, rows, tmp_path, weights, label_smoothing_factor=smoothing)
    if dtype == "float64":
        monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # of logits, in a loss
        parts.adapted.double()
        if weights is not None:
            trainer.class_weights = trainer.class_weights.double()

    (whole,) = trainer.get_batch_samples(
        iter([trainer.data_collator([rows[i] for i in range(8)])]), 1, trainer.args.device
    )[0]
    whole.pop("length")
    labels = whole["labels"][:, 1:] if name == "causal_lm" else whole["labels"]
    items = (labels != -100).sum()
    inputs = {key: values for key, values in whole.items() if key != "labels"}
    parts.adapted.train()
    loss = parts.task.loss(
        parts.adapted(**inputs).logits,
        whole["labels"],
        items=items,
        smoothing=smoothing,
        weights=trainer.class_weights,
    )
    loss.backward()
    expected = gradients(parts.adapted)
    assert any(gradient.any() for gradient in expected.values())

    assert trainer.floating_point_ops(inputs) == Trainer.floating_point_ops(trainer, inputs) > 0
    with trainer.acceleration.applied(is_sharded=False):
        for budget, width in product((1, 100, 10_000), (None, 64)):
            trainer.settings["token_budget"] = budget
            trainer.acceleration.max_width = width
            ((batch,), counted) = trainer.get_batch_samples(iter([whole]), 1, trainer.args.device)
            assert counted == items
            found_loss = trainer.training_step(parts.adapted, batch, counted)
            assert found_loss.item() == pytest.approx(loss.item(), rel=tolerance)
            for key, gradient in gradients(parts.adapted).items():
                error = (gradient - expected[key]).norm() / expected[key].norm().clamp_min(1e-12)
                assert error < tolerance, (key, budget)


@pytest.mark.parametrize("name", BASES)
def test_each_micro_batch_is_padded_to_its_own_longest_row(name, tmp_path):
    parts = make_parts(make_base(tmp_path, BASES[name]), name)
    rows = as_rows(tokenize_rows(parts))
    whole, found = parts.collate(rows), []
    for part in split_batch(whole, 60, parts.task.collator):
        filled = part["attention_mask"]
        assert len(filled) == 1 or filled.numel() <= 60
        assert filled.sum(dim=1).max() == filled.shape[1]
        numbers = row_numbers(part, whole)
        found += numbers
        for key, values in parts.collate([rows[i] for i in numbers]).items():
            assert torch.equal(part[key], values), key
    assert sorted(found) == list(range(8))


@pytest.mark.parametrize("name", BASES)
def test_each_micro_batch_is_padded_to_one_of_few_widths(name, tmp_path):
    parts = make_parts(make_base(tmp_path, BASES[name]), name)
    rows = as_rows(tokenize_rows(parts))
    collate = replace(parts.collate, pad_to_multiple_of=WIDTH_MULTIPLE)
    whole, found = collate(rows), []
    longest = max(len(row["input_ids"]) for row in rows)
    for budget in range(100, 500, 7):
        for part in split_batch(whole, budget, parts.task.collator, max_width=longest):
            assert len(part["input_ids"]) == 1 or part["input_ids"].numel() <= budget
    for part in split_batch(whole, 160, parts.task.collator, max_width=longest):
        width = part["input_ids"].shape[1]
        numbers = row_numbers(part, whole)
        found += numbers
        own = [rows[i] for i in numbers]
        assert width == widen(max(len(row["input_ids"]) for row in own), longest)
        for key, values in collate(own).items():
            assert torch.equal(
                part[key], values[:, : part[key].shape[1]] if values.ndim > 1 else values
            )
    assert sorted(found) == list(range(8))


def test_widths_are_few_and_hardly_wider():
    widths = {width: widen(width, 500) for width in range(1, 501)}
    assert all(width <= wider <= 500 for width, wider in widths.items())
    assert all(wider < width * 9 / 8 for width, wider in widths.items())
    assert len(set(widths.values())) < 60
    assert {wider % 32 for width, wider in widths.items() if 256 <= width < 480} == {0}
    assert max(widths.values()) == 500
    assert widen(510, 500) == 510  # no token is lost


@pytest.mark.parametrize("longest", [128, 117])
@pytest.mark.parametrize(
    ("changes", "is_few"),
    [
        ({"training": {"bf16": True}}, True),
        ({"training": {"bf16": True, "train_sampling_strategy": "random"}}, True),
        ({"model": {"dtype": "bfloat16"}}, True),
        ({}, False),
        ({"training": {"bf16": True, "fast": False}}, False),
    ],
)
def test_bfloat16_on_a_cpu_trains_on_few_widths(run_tiny, monkeypatch, longest, changes, is_few):
    """And never on more than data.max_length tokens."""
    widths = []
    plain = Trainer.training_step

    def watch(trainer, model, inputs, *more):
        widths.append(inputs["input_ids"].shape[1])
        return plain(trainer, model, inputs, *more)

    monkeypatch.setattr(Trainer, "training_step", watch)
    training = changes.get("training", {}) | {"num_train_epochs": 1}
    run_tiny(**{"model": changes.get("model", {})}, training=training, data={"max_length": longest})
    assert max(widths) <= longest
    assert all(width == widen(width, longest) for width in widths) == is_few


@pytest.mark.parametrize("change", [None, "padding_side", "model_input_names"])
def test_widths_stay_where_padding_would_change_the_outputs(change, tmp_path):
    """Where positions count padding, or a model takes no attention mask."""
    parts = make_parts(make_base(tmp_path / "base", "bert-base-cased"), "sequence_classification")
    parts.attach()
    if change is not None:
        value = "left" if change == "padding_side" else ["input_ids"]
        setattr(parts.tokenizer, change, value)
    arguments = make_arguments(
        RESOLVED_TRAINING | {"bf16": True}, task=parts.task, checkpoints=tmp_path
    )
    acceleration = accelerated(
        parts.adapted,
        None,
        arguments=arguments,
        task=parts.task,
        collate=parts.collate,
        enabled=True,
    )
    expected = (64, WIDTH_MULTIPLE) if change is None else (None, None)
    assert (acceleration.max_width, acceleration.collate.pad_to_multiple_of) == expected


def as_rows(columns):
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def row_numbers(part, whole):
    """The numbers of a part's rows in the whole batch, by their tokens."""
    ids = [row[mask.bool()].tolist() for row, mask in zip(*tokens(whole), strict=True)]
    return [ids.index(row[m.bool()].tolist()) for row, m in zip(*tokens(part), strict=True)]


def tokens(batch):
    return batch["input_ids"], batch["attention_mask"]
