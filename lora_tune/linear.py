"""Linear models of features, for tasks with one answer a row: the ladder's cheap rungs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

MOST_ITERATIONS = 2000  # of a logistic regression's solver
LEAST = 1e-12  # a probability's floor, so that its logarithm is finite


@dataclass(frozen=True)
class Linear:
    """A fitted model."""

    answer: Callable[[Any], np.ndarray]  # features (rows, width) -> (rows, numbers)
    size: int  # numbers that were fitted


@dataclass(frozen=True)
class Idle:
    """The answer that serves all rows alike."""

    rung: str  # the name of it
    answer: np.ndarray  # (numbers,)
    note: str


class LinearAnswers(Protocol):
    """How labels of one kind are answered without a language model."""

    def idle(self, labels: np.ndarray, names: Sequence[str]) -> Idle:
        """Answer by what training labels (rows, ...) are on the whole."""

    def fit(
        self, features: Any, labels: np.ndarray, names: Sequence[str], strength: float
    ) -> Linear:
        """Fit a model to training rows.

        Args:
            features: (rows, width), dense or sparse.
            labels: (rows, ...).
            names: of the labels.
            strength: scikit-learn's C, the inverse of regularisation.
        """


class ClassAnswers:
    """One class of several for each row, (rows,); answers are log-probabilities."""

    def idle(self, labels: np.ndarray, names: Sequence[str]) -> Idle:
        """The commonest class, as likely as it is in train."""
        counts = np.bincount(labels, minlength=len(names))
        answer = np.log(np.maximum(counts / counts.sum(), LEAST))
        return Idle("majority", answer, f"always {names[int(counts.argmax())]}")

    def fit(
        self, features: Any, labels: np.ndarray, names: Sequence[str], strength: float
    ) -> Linear:
        """Fit a logistic regression."""
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=strength, max_iter=MOST_ITERATIONS).fit(features, labels)

        def answer(rows: Any) -> np.ndarray:
            shares = np.zeros((rows.shape[0], len(names)))  # 0 for those that train does not hold
            shares[:, model.classes_] = model.predict_proba(rows)
            return np.log(np.maximum(shares, LEAST))

        return Linear(answer, model.coef_.size + model.intercept_.size)


class LabelAnswers:
    """Any of several labels for each row, (rows, labels) of 0 and 1; answers are log-odds."""

    def idle(self, labels: np.ndarray, names: Sequence[str]) -> Idle:
        """Each label as likely as it is in train, a row with and one without it added."""
        share = (labels.sum(axis=0) + 1) / (len(labels) + 2)
        told = ", ".join(f"{name} {part:.0%}" for name, part in zip(names, share, strict=True))
        return Idle("constant", np.log(share / (1 - share)), f"always {told}")

    def fit(
        self, features: Any, labels: np.ndarray, names: Sequence[str], strength: float
    ) -> Linear:
        """Fit a logistic regression for each label."""
        from sklearn.linear_model import LogisticRegression

        models = [
            LogisticRegression(C=strength, max_iter=MOST_ITERATIONS).fit(features, column)
            if 0 < column.sum() < len(column)
            else None
            for column in labels.T
        ]
        always = self.idle(labels, names).answer

        def answer(rows: Any) -> np.ndarray:
            columns = [
                np.full(rows.shape[0], odds) if model is None else model.decision_function(rows)
                for model, odds in zip(models, always, strict=True)
            ]
            return np.stack(columns, axis=1)

        sizes = [model.coef_.size + model.intercept_.size for model in models if model is not None]
        return Linear(answer, sum(sizes))


class ValueAnswers:
    """A number for each row, (rows,); answers are numbers."""

    def idle(self, labels: np.ndarray, names: Sequence[str]) -> Idle:
        """The median, of which no number is nearer to the rows on the whole."""
        median = float(np.median(labels))
        return Idle("constant", np.array([median]), f"always {median:.4g}, train's median")

    def fit(
        self, features: Any, labels: np.ndarray, names: Sequence[str], strength: float
    ) -> Linear:
        """Fit a ridge regression."""
        from sklearn.linear_model import Ridge

        model = Ridge(alpha=1 / strength).fit(features, labels)
        return Linear(lambda rows: model.predict(rows)[:, None], model.coef_.size + 1)
