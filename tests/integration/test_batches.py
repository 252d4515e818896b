"""A batch that is split gives the gradients of the whole, and two processes what one gives."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import Trainer

from lora_tune import evaluation
from lora_tune.adapter_trainer import AdapterTrainer
from lora_tune.batching import MULTIPLE, StepBatches, make_collator, split_batch, widen
from lora_tune.errors import DataError
from lora_tune.evaluation import answer_rows
from lora_tune.loading import make_loader
from lora_tune.recipe import TRAINING_DEFAULTS, LoraConfig
from lora_tune.tasks import find_task
from lora_tune.training import make_arguments
from tests.conftest import ROOT
from tests.parts import Parts
from tests.tiny import make_base, reviews
from tests.two_processes import CASES, EPOCHS, train_cases

TASKS = {
    "sequence_classification": "bert-base-cased",
    "multi_label_classification": "distilbert-base-uncased",
    "sequence_regression": "roberta-base",
    "token_classification": "bert-base-cased",
    "causal_lm": "gpt2",
    "seq2seq_lm": "google/flan-t5-base",
}
LABELS = {
    "multi_label_classification": ["dull", "long", "funny"],
    "sequence_regression": ["score"],
    "token_classification": ["O", "B-PER"],
}


def label_rows(task, encoded):
    """Labels of each kind, for rows of tokens."""
    generator = np.random.default_rng(0)
    for number, ids in enumerate(encoded["input_ids"]):
        kinds = {
            "sequence_classification": number % 3,
            "multi_label_classification": [float(number % 2), 1.0, float(number % 3 == 0)],
            "sequence_regression": number / 7,
            "token_classification": [-100, *generator.integers(0, 2, len(ids) - 2), -100],
            "causal_lm": [-100] * (1 + number % 5) + ids[1 + number % 5 :],
            "seq2seq_lm": ids[: 3 + 7 * (number % 4)],
        }
        yield kinds[task]


def make_trainer(parts, rows, folder, weights=None, **training):
    training = TRAINING_DEFAULTS | training
    task = parts.task
    split = SimpleNamespace(encoded=rows)
    trainer = AdapterTrainer(
        parts.adapted,
        make_arguments(training, task=task, checkpoints=folder),
        data=SimpleNamespace(train=split, validation=split, class_weights=weights),
        task=task,
        collate=make_collator(parts.tokenizer, task, parts.model),
        show=print,
    )
    trainer.is_fast = True
    trainer.has_own_batches = True
    return trainer


def gradients(model):
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(("dtype", "nearness"), [("float32", 1e-5), ("float64", 1e-10)])
def test_a_split_batch_gives_the_gradients_of_the_whole(
    name, dtype, nearness, tmp_path, monkeypatch
):
    lora = LoraConfig(rank=4, alpha=8, dropout=0.0)
    base = make_base(tmp_path / "base", TASKS[name])
    parts = Parts(base, lora, task=find_task(name), labels=LABELS.get(name), dropout=0.0)
    parts.attach()
    torch.manual_seed(1)
    for parameter in (p for p in parts.adapted.parameters() if p.requires_grad):
        torch.nn.init.normal_(parameter, std=0.1)  # else no gradient reaches A
    for module in parts.adapted.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # the head's own
    texts = [text[: 20 + 16 * n] for n, text in enumerate(reviews()[0][:8])]
    encoded = dict(parts.tokenizer(texts, truncation=True, max_length=64))
    encoded["labels"] = list(label_rows(name, encoded))
    rows = Dataset.from_dict(encoded | {"length": [len(ids) for ids in encoded["input_ids"]]})
    weights = [1.0, 2.0, 0.5] if name == "sequence_classification" else None
    smoothing = 0.0 if name == "multi_label_classification" else 0.1  # which Trainer refuses
    trainer = make_trainer(parts, rows, tmp_path, weights, label_smoothing_factor=smoothing)
    if dtype == "float64":
        monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # of logits, in a loss
        parts.adapted.double()
        trainer.weights = None if weights is None else trainer.weights.double()

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
        weights=trainer.weights,
    )
    loss.backward()
    expected = gradients(parts.adapted)
    assert any(gradient.any() for gradient in expected.values())

    assert trainer.floating_point_ops(inputs) == Trainer.floating_point_ops(trainer, inputs) > 0
    with trainer.standing_in:
        for budget, trainer.most_width in product((1, 100, 10_000), (None, 64)):
            trainer.token_budget = budget
            ((batch,), counted) = trainer.get_batch_samples(iter([whole]), 1, trainer.args.device)
            assert counted == items
            found_loss = trainer.training_step(parts.adapted, batch, counted)
            assert found_loss.item() == pytest.approx(loss.item(), rel=nearness)
            for key, gradient in gradients(parts.adapted).items():
                error = (gradient - expected[key]).norm() / expected[key].norm().clamp_min(1e-12)
                assert error < nearness, (key, budget)


@pytest.mark.parametrize("name", TASKS)
def test_each_part_is_padded_to_its_own_longest(name, tmp_path):
    parts = Parts(make_base(tmp_path, TASKS[name]), task=find_task(name))
    encoded = dict(parts.tokenizer([text[:99] for text in reviews()[0][:8]]))
    encoded["labels"] = list(label_rows(name, encoded))
    collate = make_collator(parts.tokenizer, parts.task, parts.model)
    rows = [dict(zip(encoded, row, strict=True)) for row in zip(*encoded.values(), strict=True)]
    whole, names = collate(rows), []
    for part in split_batch(whole, 60, parts.task):
        filled = part["attention_mask"]
        assert len(filled) == 1 or filled.numel() <= 60
        assert filled.sum(dim=1).max() == filled.shape[1]
        one = [rows[i] for i in part_rows(part, whole)]
        names += part_rows(part, whole)
        for key, values in collate(one).items():
            assert torch.equal(part[key], values), key
    assert sorted(names) == list(range(8))


@pytest.mark.parametrize("name", TASKS)
def test_each_part_is_padded_on_to_one_of_few_widths(name, tmp_path):
    parts = Parts(make_base(tmp_path, TASKS[name]), task=find_task(name))
    encoded = dict(parts.tokenizer([text[:99] for text in reviews()[0][:8]]))
    encoded["labels"] = list(label_rows(name, encoded))
    collate = make_collator(parts.tokenizer, parts.task, parts.model)
    wide = replace(collate, pad_to_multiple_of=MULTIPLE)
    rows = [dict(zip(encoded, row, strict=True)) for row in zip(*encoded.values(), strict=True)]
    whole, names = wide(rows), []
    most = max(map(len, encoded["input_ids"]))
    for budget in range(100, 500, 7):
        for part in split_batch(whole, budget, parts.task, most_width=most):
            assert len(part["input_ids"]) == 1 or part["input_ids"].numel() <= budget
    for part in split_batch(whole, 160, parts.task, most_width=most):
        width = part["input_ids"].shape[1]
        names += part_rows(part, whole)
        own = [rows[i] for i in part_rows(part, whole)]
        assert width == widen(max(len(row["input_ids"]) for row in own), most)
        for key, values in wide(own).items():
            assert torch.equal(
                part[key], values[:, : part[key].shape[1]] if values.ndim > 1 else values
            )
    assert sorted(names) == list(range(8))


def test_there_are_few_widths_none_of_them_much_wider():
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
def test_batches_take_few_widths_where_a_width_has_a_price(
    run_tiny, monkeypatch, longest, changes, is_few
):
    """In bfloat16 on a CPU; and never wider than a row may be."""
    widths = []
    plain = Trainer.training_step

    def see(trainer, model, inputs, *more):
        widths.append(inputs["input_ids"].shape[1])
        return plain(trainer, model, inputs, *more)

    monkeypatch.setattr(Trainer, "training_step", see)
    training = changes.get("training", {}) | {"num_train_epochs": 1}
    run_tiny(**{"model": changes.get("model", {})}, training=training, data={"max_length": longest})
    assert max(widths) <= longest
    assert all(width == widen(width, longest) for width in widths) == is_few


@pytest.mark.parametrize("fault", ["padding_side", "model_input_names"])
def test_batches_keep_their_width_where_padding_would_be_seen(fault, tmp_path):
    """By positions that count padding, or by a model without a mask."""
    parts = Parts(make_base(tmp_path / "base", "bert-base-cased"))
    parts.attach()
    rows = Dataset.from_dict({"input_ids": [[1]], "length": [1]})
    trainer = make_trainer(parts, rows, tmp_path)
    setattr(parts.tokenizer, fault, "left" if fault == "padding_side" else ["input_ids"])
    trainer.take_few_widths(trainer.collate)
    assert trainer.most_width is None
    assert trainer.data_collator.pad_to_multiple_of is None


def part_rows(part, whole):
    """The numbers of a part's rows, by their tokens."""
    ids = [row[mask.bool()].tolist() for row, mask in zip(*tokens(whole), strict=True)]
    return [ids.index(row[m.bool()].tolist()) for row, m in zip(*tokens(part), strict=True)]


def tokens(batch):
    return batch["input_ids"], batch["attention_mask"]


@pytest.mark.parametrize("strategy", [None, "group_by_length", "sequential"])
def test_trainers_own_samplers_are_there_where_they_are_asked_for(run_tiny, monkeypatch, strategy):
    taken = []
    plain = AdapterTrainer.get_train_dataloader

    def see(trainer):
        taken.append(plain(trainer))
        return taken[0]

    monkeypatch.setattr(AdapterTrainer, "get_train_dataloader", see)
    training = {} if strategy is None else {"train_sampling_strategy": strategy}
    run_tiny(training=training | {"num_train_epochs": 1})
    (loader,) = taken
    if strategy is None:
        assert isinstance(loader.batch_sampler, StepBatches)
    else:
        names = {"group_by_length": "LengthGroupedSampler", "sequential": "SequentialSampler"}
        assert type(loader.batch_sampler.sampler).__name__ == names[strategy]


def test_freed_memory_is_asked_for_in_large_pages_unless_the_user_says_otherwise():
    code = "from lora_tune.environment import keep_freed_memory as keep; keep(); import os; "
    code += "print(os.environ['THP_MEM_ALLOC_ENABLE'])"
    for own, expected in ({}, "1"), ({"THP_MEM_ALLOC_ENABLE": "0"}, "0"):
        clean = {k: v for k, v in os.environ.items() if k != "THP_MEM_ALLOC_ENABLE"}
        found = subprocess.check_output([sys.executable, "-c", code], env=clean | own, text=True)
        assert found.strip() == expected


def test_fewer_rows_than_processes_are_refused(tmp_path):
    rows = Dataset.from_dict({"input_ids": [[1]], "length": [1]})
    arguments = SimpleNamespace(world_size=2)
    with pytest.raises(DataError, match=r"^data.train: found 1 rows for 2 processes, expected at"):
        make_loader(rows, arguments, batch_size=1, collate=list)


@pytest.mark.parametrize("name", ["causal_lm", "seq2seq_lm"])
def test_evaluation_keeps_tokens_and_logits_within_bounds(name, tmp_path, monkeypatch):
    """However small the batches, the answers stay what they are."""
    parts = Parts(make_base(tmp_path, TASKS[name]), task=find_task(name))
    encoded = dict(parts.tokenizer([text[: 20 + 9 * n] for n, text in enumerate(reviews()[0][:8])]))
    encoded["labels"] = list(label_rows(name, encoded))
    collate = make_collator(parts.tokenizer, parts.task, parts.model)
    sizes = []

    def see(_, __, outputs):
        sizes.append((len(outputs.logits), outputs.logits.numel()))

    parts.model.register_forward_hook(see)
    options = {"task": parts.task, "collate": collate, "title": ""}
    together = answer_rows(parts.model, encoded, **options)
    assert [rows for rows, _ in sizes] == [8]
    sizes.clear()
    most = 100 * parts.model.config.vocab_size
    monkeypatch.setattr(evaluation, "MOST_LOGITS", most)
    apart = answer_rows(parts.model, encoded, **options)
    assert len(sizes) > 1
    assert all(rows == 1 or logits <= most for rows, logits in sizes)
    for one, other in zip(together, apart, strict=True):
        assert np.allclose(one, other, atol=1e-5)
    sizes.clear()
    answer_rows(parts.model, encoded, most_rows=2, **options)
    assert max(rows for rows, _ in sizes) <= 2


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What each of two processes that train together saw, and the adapters that they made."""
    folder = tmp_path_factory.mktemp("two")
    make_base(folder / "base", "gpt2")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "tests.two_processes", str(folder)]
    running = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in running:
            _, told = process.communicate(timeout=180)
            assert process.returncode == 0, told
    finally:
        for process in running:  # one that waits for another that failed
            process.kill()
    return folder


@pytest.mark.parametrize("name", CASES)
def test_two_processes_see_every_row_once(two_processes, name):
    seen = [json.loads((two_processes / f"{name}-{rank}.json").read_text()) for rank in range(2)]
    sides = [side["batches"] for side in seen]
    assert len(sides[0]) == len(sides[1])
    count, more = divmod(len(sides[0]), EPOCHS)
    assert not more
    epochs = [[side[e * count : (e + 1) * count] for side in sides] for e in range(EPOCHS)]
    for halves in epochs:
        rows = [row for batches in halves for batch in batches for row in batch]
        assert sorted(rows) == list(range(CASES[name]["rows"]))
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case["is_comparable"]])
def test_two_processes_make_the_adapter_of_one(two_processes, name):
    train_cases(two_processes, [name], together=2)
    one = load_file(two_processes / f"{name}-alone.safetensors")
    for rank in range(2):
        other = load_file(two_processes / f"{name}-{rank}.safetensors")
        assert all(torch.allclose(one[key], other[key], atol=1e-5) for key in one)
    fresh = load_file(two_processes / "fresh.safetensors")
    assert max((one[key] - fresh[key]).abs().max() for key in one) > 1e-3
    alone, both = (
        json.loads((two_processes / f"{name}-{who}.json").read_text())["losses"]
        for who in ("alone", 0)
    )
    assert both == pytest.approx(alone, abs=1e-4)
