"""A base model and labeled, tokenized rows for each task."""

import numpy as np

from lora_tune.tasks import make_task
from tests.parts import Parts
from tests.tiny import reviews

BASES = {
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


def make_parts(folder, task, *options, **named):
    """Load the base model in a folder for a task."""
    return Parts(folder, *options, task=make_task(task), labels=LABELS.get(task), **named)


def tokenize_rows(parts, texts=None, **options):
    """Tokenize texts, by default eight of up to 99 characters; returns columns with labels."""
    texts = texts or [text[:99] for text in reviews()[0][:8]]
    columns = dict(parts.tokenizer(texts, **options))
    columns["labels"] = list(_make_labels(parts.task.name, columns["input_ids"]))
    return columns


def _make_labels(task, rows):
    generator = np.random.default_rng(0)
    for number, ids in enumerate(rows):
        labels = {
            "sequence_classification": number % 3,
            "multi_label_classification": [float(number % 2), 1.0, float(number % 3 == 0)],
            "sequence_regression": number / 7,
            "token_classification": [-100, *generator.integers(0, 2, len(ids) - 2), -100],
            "causal_lm": [-100] * (1 + number % 5) + ids[1 + number % 5 :],
            "seq2seq_lm": ids[: 3 + 7 * (number % 4)],
        }
        yield labels[task]
