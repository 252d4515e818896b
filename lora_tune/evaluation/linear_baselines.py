"""Baselines of one output a row: a constant, TF-IDF with a linear model, and a linear probe."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lora_tune.data.segmentation import find_terms
from lora_tune.data.splits import Data
from lora_tune.evaluation.linear_models import LINEAR_MODELS, LinearModel
from lora_tune.evaluation.model_evaluation import Evaluation, evaluate_outputs
from lora_tune.evaluation.results import LINEAR_PROBE, TFIDF, Result
from lora_tune.tasks import Task

TFIDF_STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # scikit-learn's C, the inverse of the regularization
PROBE_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
MAX_WEIGHTS = 4_000_000  # of the TF-IDF baseline; the rarest terms of more are left out


def constant_baseline(data: Data, task: Task) -> Result:
    """Predict the same for every row, by the labels of train."""
    start = time.perf_counter()
    constant = LINEAR_MODELS[task.output_kind].fit_constant(data.train.rows.labels, data.labels)
    outputs = [constant.output[None] for _ in data.test.rows.texts]
    evaluation = evaluate_outputs(outputs, data.test, task)
    return Result(constant.name, evaluation, 0, time.perf_counter() - start, constant.note)


def tfidf_baseline(data: Data, task: Task) -> Result:
    """Fit a linear model to the TF-IDF of one- and two-word terms: no language model at all."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    start = time.perf_counter()
    for min_rows in (2, 1):  # a term of one row generalizes to no other, unless all are so
        terms = TfidfVectorizer(
            ngram_range=(1, 2),
            tokenizer=find_terms,
            token_pattern=None,
            lowercase=False,
            sublinear_tf=True,
            min_df=min_rows,
            max_features=MAX_WEIGHTS // len(data.labels),
        )
        try:
            train = terms.fit_transform(data.train.rows.texts)
            break
        except ValueError:  # no term is left
            continue
    else:
        evaluation = constant_baseline(data, task).evaluation
        return Result(TFIDF, evaluation, 0, time.perf_counter() - start, "no words in train")
    inputs = {
        "train": train,
        "validation": terms.transform(data.validation.rows.texts),
        "test": terms.transform(data.test.rows.texts),
    }
    named = {f"{len(terms.vocabulary_):,} terms": inputs}
    fitted = _fit_best(named, TFIDF_STRENGTHS, data, task, title="TF-IDF")
    seconds = time.perf_counter() - start
    return Result(TFIDF, fitted.evaluation, fitted.parameters, seconds, fitted.note)


def linear_probe(
    pooled: Mapping[str, Mapping[str, np.ndarray]],
    data: Data,
    task: Task,
    *,
    feature_seconds: float,
) -> Result:
    """Fit a linear model to the frozen model's pooled features.

    Args:
        pooled: way of pooling -> split -> features, (rows, width).
        feature_seconds: what running the frozen model over train and validation took.
    """
    start = time.perf_counter()
    inputs = {f"{name} pooled": _standardize(features) for name, features in pooled.items()}
    fitted = _fit_best(inputs, PROBE_STRENGTHS, data, task, title="linear probe")
    seconds = feature_seconds + time.perf_counter() - start
    return Result(LINEAR_PROBE, fitted.evaluation, fitted.parameters, seconds, fitted.note)


@dataclass(frozen=True)
class _Fitted:
    evaluation: Evaluation
    parameters: int
    note: str


def _fit_best(
    inputs: Mapping[str, Mapping[str, Any]],
    strengths: Iterable[float],
    data: Data,
    task: Task,
    *,
    title: str,
) -> _Fitted:
    """Fit on train, choose inputs and strength on validation, evaluate on test.

    Args:
        inputs: their name -> split -> (rows, width).
    """
    from tqdm import tqdm

    models = LINEAR_MODELS[task.output_kind]
    best: tuple[tuple[float, float], str, LinearModel, Any] | None = None
    candidates = [(name, strength) for name in inputs for strength in strengths]
    for name, strength in tqdm(candidates, desc=title, unit="fit", disable=None, leave=False):
        model = models.fit(inputs[name]["train"], data.train.rows.labels, data.labels, strength)
        outputs = list(model.predict(inputs[name]["validation"])[:, None])
        metrics = evaluate_outputs(outputs, data.validation, task).metrics
        sign = -1 if task.primary_metric.lower_is_better else 1
        score = (sign * metrics[task.primary_metric.name], -metrics["loss"])
        if best is None or score > best[0]:
            best = (score, f"{name}, C={strength:g}", model, inputs[name]["test"])
    assert best is not None
    _, note, model, test = best
    evaluation = evaluate_outputs(list(model.predict(test)[:, None]), data.test, task)
    return _Fitted(evaluation, model.parameters, note)


def _standardize(features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    from sklearn.preprocessing import StandardScaler

    scale = StandardScaler().fit(features["train"])
    return {split: scale.transform(values) for split, values in features.items()}
