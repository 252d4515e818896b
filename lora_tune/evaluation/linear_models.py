"""Linear models of features, for tasks with one output a row: TF-IDF and linear probe use them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lora_tune.evaluation.results import CONSTANT, MAJORITY

MAX_ITERATIONS = 2000  # of a logistic regression's solver
MIN_PROBABILITY = 1e-12  # so that its logarithm is finite


@dataclass(frozen=True)
class LinearModel:
    """A fitted model."""

    predict: Callable[[Any], np.ndarray]  # features (rows, width) -> outputs (rows, numbers)
    parameters: int


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

        def predict(rows: Any) -> np.ndarray:
            shares = np.zeros((rows.shape[0], len(names)))  # 0 for classes that train lacks
            shares[:, model.classes_] = model.predict_proba(rows)
            return np.log(np.maximum(shares, MIN_PROBABILITY))

        return LinearModel(predict, model.coef_.size + model.intercept_.size)


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
        always = self.fit_constant(labels, names).output

        def predict(rows: Any) -> np.ndarray:
            columns = [
                np.full(rows.shape[0], odds) if model is None else model.decision_function(rows)
                for model, odds in zip(models, always, strict=True)
            ]
            return np.stack(columns, axis=1)

        sizes = [model.coef_.size + model.intercept_.size for model in models if model is not None]
        return LinearModel(predict, sum(sizes))


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
        return LinearModel(lambda rows: model.predict(rows)[:, None], model.coef_.size + 1)


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
