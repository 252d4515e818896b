"""Linear models of features, for tasks with one output a row: TF-IDF and linear probe use them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lora_tune.evaluation.fitted_baselines import MIN_PROBABILITY, LinearModel
from lora_tune.evaluation.results import CONSTANT, MAJORITY

MAX_ITERATIONS = 2000  # of a logistic regression's solver


@dataclass(frozen=True)
class ConstantModel:
    """The same output for every row."""

    name: str
    output: np.ndarray  # (numbers,)
    note: str


class ClassModels:
    """Models of one class for each row, (rows,); outputs are log-probabilities."""

    def fit_constant(self, labels: np.ndarray, names: Sequence[str]) -> ConstantModel:
        """The majority class, as probable as it is in train."""
        counts = np.bincount(labels, minlength=len(names))
        output = np.log(np.maximum(counts / counts.sum(), MIN_PROBABILITY))
        return ConstantModel(MAJORITY, output, f"always {names[int(counts.argmax())]}")

    def fit(
        self, features: Any, labels: np.ndarray, names: Sequence[str], strength: float
    ) -> LinearModel:
        """Fit a logistic regression; see `LinearModels`."""
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=strength, max_iter=MAX_ITERATIONS).fit(features, labels)
        return LinearModel(
            model.coef_.astype(float),
            model.intercept_.astype(float),
            model.coef_.size + model.intercept_.size,
            classes=model.classes_.astype(np.int64),
            class_count=len(names),
        )


class LabelsModels:
    """Models of any of several labels for each row, (rows, labels) of 0 and 1; log-odds."""

    def fit_constant(self, labels: np.ndarray, names: Sequence[str]) -> ConstantModel:
        """Each label as probable as in train, a row with and one without it added."""
        share = (labels.sum(axis=0) + 1) / (len(labels) + 2)
        written = ", ".join(f"{name} {part:.0%}" for name, part in zip(names, share, strict=True))
        return ConstantModel(CONSTANT, np.log(share / (1 - share)), f"always {written}")

    def fit(
        self, features: Any, labels: np.ndarray, names: Sequence[str], strength: float
    ) -> LinearModel:
        """Fit a logistic regression for each label; see `LinearModels`."""
        from sklearn.linear_model import LogisticRegression

        models = [
            LogisticRegression(C=strength, max_iter=MAX_ITERATIONS).fit(features, column)
            if 0 < column.sum() < len(column)
            else None
            for column in labels.T
        ]
        weights = np.zeros((len(names), features.shape[1]))
        bias = self.fit_constant(labels, names).output  # of a label that all rows have, or none
        sizes = 0
        for number, model in enumerate(models):
            if model is not None:
                weights[number], bias[number] = model.coef_[0], model.intercept_[0]
                sizes += model.coef_.size + model.intercept_.size
        return LinearModel(weights, bias, sizes)


class ValueModels:
    """Models of a number for each row, (rows,); outputs are numbers."""

    def fit_constant(self, labels: np.ndarray, names: Sequence[str]) -> ConstantModel:
        """The median, which minimizes the mean absolute error."""
        median = float(np.median(labels))
        return ConstantModel(CONSTANT, np.array([median]), f"always {median:.4g}, train's median")

    def fit(
        self, features: Any, labels: np.ndarray, names: Sequence[str], strength: float
    ) -> LinearModel:
        """Fit a ridge regression; see `LinearModels`."""
        from sklearn.linear_model import Ridge

        model = Ridge(alpha=1 / strength).fit(features, labels)
        weights = model.coef_.astype(float)[None]
        return LinearModel(weights, np.array([float(model.intercept_)]), model.coef_.size + 1)


# How labels of one kind are predicted without a language model. Their `fit` takes features (rows,
# width), dense or sparse; labels (rows, ...); the labels' names; and scikit-learn's C, the inverse
# of the regularization.
LinearModels = ClassModels | LabelsModels | ValueModels
# By a task's output kind.
LINEAR_MODELS: dict[str, LinearModels] = {
    "class": ClassModels(),
    "labels": LabelsModels(),
    "value": ValueModels(),
}
