"""Causal language modeling: packed texts, prompts with completions, and perplexity."""

import numpy as np
import pytest
import torch

from lora_tune.config.data import DataConfig
from lora_tune.data.batching import IGNORE_INDEX
from lora_tune.data.splits import load_data
from lora_tune.tasks import make_task
from tests.tiny import make_tokenizer
from tests.unit.rows import VALIDATION, write_splits

LM = make_task("causal_lm")


@pytest.fixture
def prompted(tmp_path):
    rows = [{"q": f"What is {i}?", "a": f"It is {i}, {{q}}."} for i in range(8)]
    write_splits(tmp_path, train=rows, test=rows[:3], validation=rows[3:5])
    return DataConfig(
        source=str(tmp_path),
        validation=VALIDATION,
        prompt="Q: {q} {{}}\n",
        completion="{a}",
        max_length=64,
    )


def test_only_the_completion_has_labels(prompted):
    tokenizer = make_tokenizer("gpt2")
    data = load_data(prompted, LM, tokenizer)
    encoded = data.train.encoded[2]
    labeled = [n for n in encoded["labels"] if n != IGNORE_INDEX]
    assert tokenizer.decode(labeled) == "It is 2, {q}.<|endoftext|>"
    assert tokenizer.decode(encoded["input_ids"]).startswith("<|endoftext|>Q: What is 2? {}\nIt is")
    assert data.test.encoded["target_bytes"] == [len("It is 0, {q}.")] * 3


def test_a_long_prompt_is_truncated_at_its_beginning_to_half_of_max_length(prompted, tmp_path):
    write_splits(tmp_path, train=[{"q": "x" * 100 + "END", "a": "y" * 100}] * 9)
    tokenizer = make_tokenizer("gpt2")
    encoded = load_data(prompted, LM, tokenizer).train.encoded[0]
    assert len(encoded["input_ids"]) == 64
    assert sum(n != IGNORE_INDEX for n in encoded["labels"]) == 32
    assert "END {}\n" in tokenizer.decode(encoded["input_ids"])


def test_only_training_packs_plain_texts(tmp_path):
    texts = [f"text number {i}" for i in range(20)]
    rows = [{"text": text} for text in texts]
    write_splits(tmp_path, train=rows, test=rows[:2], validation=rows[2:4])
    tokenizer = make_tokenizer("gpt2")
    data = load_data(
        DataConfig(source=str(tmp_path), validation=VALIDATION, max_length=32), LM, tokenizer
    )
    blocks = data.train.encoded["input_ids"]
    assert [len(block) for block in blocks[:-1]] == [32] * (len(blocks) - 1)
    stream = [n for block in blocks for n in block]
    end = "<|endoftext|>"
    assert tokenizer.decode(stream) == end + end.join(texts) + end
    assert all(labels[0] == IGNORE_INDEX for labels in data.train.encoded["labels"])
    assert len(data.test.encoded) == 2


def test_long_plain_texts_are_cut_into_blocks_and_nothing_is_lost(tmp_path):
    write_splits(
        tmp_path, train=[{"text": "y" * 100}] * 3, test=[{"text": "z"}], validation=[{"text": "w"}]
    )
    config = DataConfig(source=str(tmp_path), validation=VALIDATION, max_length=32)
    data = load_data(config, LM, make_tokenizer("gpt2"))
    assert sum(map(len, data.train.encoded["input_ids"])) == 3 * 101 + 1
    assert data.train.token_counts.tolist() == [102] * 3


def test_loss_and_perplexity_are_those_of_torch(prompted):
    data = load_data(prompted, LM, make_tokenizer("gpt2"))
    longest = max(map(len, data.test.encoded["labels"]))
    labels = torch.tensor(
        [row + [IGNORE_INDEX] * (longest - len(row)) for row in data.test.encoded["labels"]]
    )
    logits = torch.randn(*labels.shape, 300)
    expected = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE_INDEX
    )
    items = (labels != IGNORE_INDEX).sum()
    assert LM.loss(logits, labels, items=items, smoothing=0.0) == pytest.approx(expected.item())
    outputs = LM.extract_outputs(logits, labels)
    metrics = LM.compute_metrics(outputs, data.test)
    assert metrics["loss"] == pytest.approx(expected.item(), rel=1e-6)
    assert metrics["perplexity"] == pytest.approx(np.exp(expected.item()), rel=1e-5)
    size = sum(len(f"It is {i}, {{q}}.") for i in range(3))
    bits = expected.item() * items.item() / np.log(2) / size
    assert metrics["bits_per_byte"] == pytest.approx(bits, rel=1e-6)
    most_probable = logits[:, :-1].argmax(-1) == labels[:, 1:]
    share = most_probable[labels[:, 1:] != IGNORE_INDEX].float().mean().item()
    assert metrics["token_accuracy"] == pytest.approx(share, abs=1e-6)
