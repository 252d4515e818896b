"""Baselines of one output a row: a constant, TF-IDF with a linear model, and a linear probe."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lora_tune.config.redaction import redact
from lora_tune.data.rows import Split
from lora_tune.data.splits import Data
from lora_tune.evaluation.fitted_baselines import (
    FittedBaseline,
    LinearModel,
    PooledFeatures,
    TfidfFeatures,
    fit_pooled_features,
    make_vectorizer,
)
from lora_tune.evaluation.linear_models import LINEAR_MODELS, ConstantModel
from lora_tune.evaluation.model_evaluation import Evaluation, evaluate_outputs
from lora_tune.evaluation.model_selection import cross_validate
from lora_tune.evaluation.results import LINEAR_PROBE, TFIDF, Result
from lora_tune.tasks import Task

TFIDF_STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # scikit-learn's C, the inverse of the regularization
PROBE_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
MAX_WEIGHTS = 4_000_000  # of the TF-IDF baseline; the rarest terms of more are left out


def constant_baseline(data: Data, task: Task) -> Result:
    """Predict the same for every row, by the labels of train."""
    start = time.perf_counter()
    constant = fit_constant(data, task)
    train = [constant.output[None] for _ in data.train.rows.texts]
    evaluation = evaluate_constant(constant, data.test, task.tune(train, data.train))
    return Result(constant.name, evaluation, 0, time.perf_counter() - start, constant.note)


def fit_constant(data: Data, task: Task) -> ConstantModel:
    """Fit the constant prediction to the labels of train."""
    return LINEAR_MODELS[task.output_kind].fit_constant(data.train.rows.labels, data.labels)


def evaluate_constant(constant: ConstantModel, split: Split, task: Task) -> Evaluation:
    """Evaluate a constant prediction on the rows of a split."""
    return evaluate_outputs([constant.output[None] for _ in split.rows.texts], split, task)


def tfidf_baseline(data: Data, task: Task) -> Result:
    """Fit a linear model to the TF-IDF of one- and two-word terms: no language model at all."""
    start = time.perf_counter()
    texts = {name: split.rows.texts for name, split in data.splits.items()}
    found = _fit_tfidf(texts.pop("train"), max_terms=MAX_WEIGHTS // len(data.labels))
    if found is None:
        evaluation = constant_baseline(data, task).evaluation
        return Result(TFIDF, evaluation, 0, time.perf_counter() - start, "no words in train")
    features, train = found
    inputs = {"train": train} | {name: features.transform(own) for name, own in texts.items()}
    named = {f"{len(features.terms):,} terms": inputs}
    fitted = _fit_best(named, TFIDF_STRENGTHS, data, task, title="TF-IDF")
    return _make_result(TFIDF, fitted, features, time.perf_counter() - start)


def _fit_tfidf(texts: Sequence[str], *, max_terms: int) -> tuple[TfidfFeatures, Any] | None:
    """Fit TF-IDF features to the texts of train, and compute them; None without any words."""
    for min_rows in (2, 1):  # a term of one row generalizes to no other, unless all are so
        vectorizer = make_vectorizer(min_df=min_rows, max_features=max_terms)
        try:
            train = vectorizer.fit_transform(texts)
        except ValueError:  # no term is left
            continue
        terms = vectorizer.get_feature_names_out().tolist()
        # The terms may be published: none of them is a secret of the environment.
        redacted = redact("\n".join(terms), ignore_case=True).split("\n")
        kept = [i for i, term in enumerate(terms) if redacted[i] == term]
        if kept:
            features = TfidfFeatures([terms[i] for i in kept], vectorizer.idf_[kept])
            return features, train if len(kept) == len(terms) else features.transform(texts)
    return None


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
    features = {
        f"{name} pooled": fit_pooled_features(name, splits["train"])
        for name, splits in pooled.items()
    }
    inputs = {
        name: {split: own.transform(values) for split, values in pooled[own.pooling].items()}
        for name, own in features.items()
    }
    fitted = _fit_best(inputs, PROBE_STRENGTHS, data, task, title="linear probe")
    seconds = feature_seconds + time.perf_counter() - start
    return _make_result(LINEAR_PROBE, fitted, features[fitted.inputs], seconds)


@dataclass(frozen=True)
class _Fitted:
    evaluation: Evaluation
    model: LinearModel
    inputs: str  # the name of those that were chosen
    strength: float


def _fit_best(
    inputs: Mapping[str, Mapping[str, Any]],
    strengths: Iterable[float],
    data: Data,
    task: Task,
    *,
    title: str,
) -> _Fitted:
    """Fit on train, choose inputs and strength, evaluate on test.

    Chooses on validation rows, or by cross-validation where they are few.

    Args:
        inputs: their name -> split -> (rows, width).
    """
    from tqdm import tqdm

    strengths = list(strengths)
    selection = _Selection(inputs, data, task)
    middle = strengths[len(strengths) // 2]
    total = len(inputs) + len(strengths) - 1
    with tqdm(total=total, desc=title, unit="fit", disable=None, leave=False) as bar:
        for name in inputs:  # first the inputs, then the strength with the best of them
            selection.add(name, middle)
            bar.update()
        best_inputs, _ = selection.best
        for strength in strengths:
            if strength != middle:
                selection.add(best_inputs, strength)
                bar.update()
    name, strength = selection.best
    model = selection.fit(name, strength)
    outputs = list(model.predict(inputs[name]["test"])[:, None])
    tuned = selection.tuned[name, strength]
    return _Fitted(evaluate_outputs(outputs, data.test, tuned), model, name, strength)


class _Selection:
    """The metrics of inputs and strengths, on validation rows or by cross-validation."""

    def __init__(self, inputs: Mapping[str, Mapping[str, Any]], data: Data, task: Task) -> None:
        self.inputs, self.data, self.task = inputs, data, task
        self.scores: dict[tuple[str, float], tuple[float, float]] = {}
        self.tuned: dict[tuple[str, float], Task] = {}

    @property
    def best(self) -> tuple[str, float]:
        """The best inputs and strength: by the primary metric, then by the loss."""
        return max(self.scores, key=lambda candidate: self.scores[candidate])

    def fit(self, name: str, strength: float) -> LinearModel:
        """Fit to all training rows."""
        models, rows = LINEAR_MODELS[self.task.output_kind], self.data.train.rows
        return models.fit(self.inputs[name]["train"], rows.labels, self.data.labels, strength)

    def add(self, name: str, strength: float) -> None:
        """Evaluate a candidate."""
        data, task = self.data, self.task
        if data.can_select or len(data.train.rows.labels) == 1:
            split = data.validation
            found = self.fit(name, strength).predict(self.inputs[name]["validation"])
        else:
            split = data.train
            found = cross_validate(
                self.inputs[name]["train"],
                split.rows.labels,
                data.labels,
                strength=strength,
                task=task,
            )
        outputs = list(found[:, None])
        tuned = task.tune(outputs, split)
        metrics = evaluate_outputs(outputs, split, tuned).metrics
        sign = -1 if task.primary_metric.lower_is_better else 1
        self.scores[name, strength] = sign * metrics[task.primary_metric.name], -metrics["loss"]
        self.tuned[name, strength] = tuned


def _make_result(
    system: str, fitted: _Fitted, features: TfidfFeatures | PooledFeatures, seconds: float
) -> Result:
    return Result(
        system,
        fitted.evaluation,
        fitted.model.parameters,
        seconds,
        f"{fitted.inputs}, C={fitted.strength:g}",
        FittedBaseline(features, fitted.model, fitted.strength),
    )
