"""Class logits as an evaluation of rows that nobody read."""

import numpy as np

from lora_tune.evaluation import judge_answers
from lora_tune.rows import Rows, Split
from lora_tune.tasks import find_task

TASK = find_task("sequence_classification")


def judge_logits(logits, labels=None):
    """Score logits (rows, classes) against labels (rows,); None: against class 0."""
    logits = np.asarray(logits)
    labels = np.zeros(len(logits), dtype=int) if labels is None else np.asarray(labels)
    places = list(range(len(logits)))
    names = [str(number) for number in range(logits.shape[1])]
    texts = [f"text {place}" for place in places]
    rows = Rows("test", "here", places, texts, texts, labels, [names[n] for n in labels], names)
    return judge_answers(list(logits[:, None]), Split(rows, None, np.ones(len(logits))), TASK)
