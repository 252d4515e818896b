"""Class logits, evaluated as the outputs of a model."""

import numpy as np

from lora_tune.data.rows import Rows, Split
from lora_tune.evaluation.model_evaluation import evaluate_outputs
from lora_tune.tasks import make_task

TASK = make_task("sequence_classification")


def evaluate_logits(logits, labels=None):
    """Evaluate logits (rows, classes) against labels (rows,); None: against class 0."""
    logits = np.asarray(logits)
    labels = np.zeros(len(logits), dtype=int) if labels is None else np.asarray(labels)
    numbers = list(range(len(logits)))
    names = [str(number) for number in range(logits.shape[1])]
    texts = [f"text {number}" for number in numbers]
    rows = Rows("test", "here", numbers, texts, texts, labels, [names[n] for n in labels], names)
    return evaluate_outputs(list(logits[:, None]), Split(rows, None, np.ones(len(logits))), TASK)
