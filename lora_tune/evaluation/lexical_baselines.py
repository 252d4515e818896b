"""Baselines from words only: each word's most frequent tag, and the beginning of a prompt."""

import time
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np

from lora_tune.data.batching import IGNORE_INDEX
from lora_tune.data.rows import Split
from lora_tune.data.segmentation import fold, split_at_words
from lora_tune.data.words import words_of
from lora_tune.evaluation.generation import evaluate_texts
from lora_tune.evaluation.model_evaluation import evaluate_outputs
from lora_tune.evaluation.results import LEAD, TAGS, Result
from lora_tune.metrics.metric import Metric
from lora_tune.tasks import Task

PRIOR = 1.0  # rows' worth of all words' tags, added to a word's own


def most_frequent_tag(train: Split, test: Split, task: Task) -> Result:
    """Give each word the tag that it has most often in train, and others the most frequent of all.

    The outputs are logarithms of (word's tag count + PRIOR * tag's share) / (count + PRIOR).
    """
    start = time.perf_counter()
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for given, tags in zip(train.rows.inputs, train.rows.labels, strict=True):
        for word, tag in zip(words_of(given), tags, strict=True):
            counts[fold(word)][int(tag)] += 1
    names = range(len(train.rows.label_names))
    total = np.array([sum(tags[number] for tags in counts.values()) for number in names])
    shares = (total + 1) / (total + 1).sum()
    outputs = []
    for row, given in enumerate(test.rows.inputs):
        kept = sum(label != IGNORE_INDEX for label in test.encoded[row]["labels"])
        found = [counts.get(fold(word), Counter()) for word in words_of(given)[:kept]]
        own = np.array([[tags[number] for number in names] for tags in found], dtype=float)
        own = own.reshape(-1, len(names))
        outputs.append(np.log((own + PRIOR * shares) / (own.sum(axis=1, keepdims=True) + PRIOR)))
    evaluation = evaluate_outputs(outputs, test, task)
    parameters = sum(map(len, counts.values()))
    seconds = time.perf_counter() - start
    return Result(TAGS, evaluation, parameters, seconds, "each word's most frequent tag in train")


def lead_baseline(train: Split, test: Split, task: Task, *, metric: Metric) -> Result:
    """Repeat the beginning of each prompt, as many words as a completion has in train.

    Words that all prompts begin with, such as the recipe's template, are left out.

    Args:
        metric: the primary metric, of generated texts.
    """
    start = time.perf_counter()
    prompts = [_words_with_marks(given["prompt"]) for given in train.rows.inputs]
    columns = list(zip(*prompts, strict=False))  # the first words of all, the second, ...
    shared = next((n for n, words in enumerate(columns) if len(set(words)) > 1), 0)
    lengths = [len(split_at_words(given["completion"])) for given in train.rows.inputs]
    kept = round(float(np.median(lengths)))
    texts = []
    for given in test.rows.inputs:
        prompt = given["prompt"]
        starts = [*split_at_words(prompt), *[len(prompt)] * (shared + kept + 1)]
        texts.append(prompt[starts[shared] : starts[shared + kept]].strip())
    evaluation = evaluate_texts(texts, test, task, metric=metric)
    note = f"{kept} words of each prompt, from word {shared + 1} on"
    return Result(LEAD, evaluation, 0, time.perf_counter() - start, note)


def _words_with_marks(text: str) -> list[str]:
    starts = split_at_words(text)
    return [text[start:end].strip() for start, end in pairwise([*starts, len(text)])]
