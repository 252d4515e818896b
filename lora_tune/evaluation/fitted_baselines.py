"""Fitted baselines of one output a row, as arrays: features of rows, and a linear model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lora_tune.data.segmentation import find_terms

MIN_PROBABILITY = 1e-12  # so that its logarithm is finite
NGRAM_RANGE = (1, 2)  # words of a term


@dataclass(frozen=True)
class LinearModel:
    """A linear model of features; for classes, a logistic regression that gives log-probabilities.

    The run and every later process compute with these arrays, not with scikit-learn's objects, so
    that a saved model predicts exactly as in the run.
    """

    weights: np.ndarray  # (outputs, width), float64; of two classes only the second has a row
    bias: np.ndarray  # (outputs,), float64
    parameters: int  # that were fitted
    classes: np.ndarray | None = None  # IDs of the classes that train has; None: no classes
    class_count: int = 0  # of all classes

    def predict(self, features: Any) -> np.ndarray:
        """Compute the outputs of rows.

        Args:
            features: (rows, width), dense or sparse.

        Returns:
            (rows, numbers): log-probabilities of all classes, log-odds of labels, or a number.
        """
        scores = np.asarray(features @ self.weights.T) + self.bias
        if self.classes is None:
            return scores
        if len(self.classes) == 2:
            scores = np.hstack([np.zeros_like(scores), scores])
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities = np.zeros((len(scores), self.class_count))  # 0 for classes that train lacks
        probabilities[:, self.classes] = shares / shares.sum(axis=1, keepdims=True)
        return np.log(np.maximum(probabilities, MIN_PROBABILITY))


@dataclass(frozen=True)
class TfidfFeatures:
    """The TF-IDF of the terms of texts: words and pairs of words, see `find_terms`."""

    terms: list[str]
    idf: np.ndarray  # (terms,), float64

    @cached_property
    def vectorizer(self) -> Any:
        """A fitted TfidfVectorizer of scikit-learn."""
        vectorizer = make_vectorizer(vocabulary=self.terms)
        vectorizer.idf_ = self.idf
        return vectorizer

    def transform(self, texts: Sequence[str]) -> Any:
        """Compute the features of texts, a sparse array (texts, terms)."""
        return self.vectorizer.transform(texts)


@dataclass(frozen=True)
class PooledFeatures:
    """The pooled last hidden states of a frozen model, standardized as in train."""

    pooling: str  # of `extract_features`
    mean: np.ndarray  # (width,), float64
    scale: np.ndarray  # (width,), float64

    def transform(self, pooled: np.ndarray) -> np.ndarray:
        """Standardize features of this way of pooling, (rows, width)."""
        return (pooled - self.mean) / self.scale


def fit_pooled_features(pooling: str, train: np.ndarray) -> PooledFeatures:
    """Fit the standardization to the pooled features of train, (rows, width)."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train)
    return PooledFeatures(pooling, scaler.mean_, scaler.scale_)


@dataclass(frozen=True)
class FittedBaseline:
    """What a baseline chose on validation rows and fitted to train."""

    features: TfidfFeatures | PooledFeatures
    model: LinearModel
    strength: float  # scikit-learn's C, the inverse of the regularization

    def tensors(self) -> dict[str, np.ndarray]:
        """All arrays that its predictions depend on, by name."""
        arrays = {"weights": self.model.weights, "bias": self.model.bias}
        if self.model.classes is not None:
            arrays["classes"] = self.model.classes
        if isinstance(self.features, TfidfFeatures):
            return arrays | {"idf": self.features.idf}
        return arrays | {"mean": self.features.mean, "scale": self.features.scale}


def restore_baseline(
    tensors: Mapping[str, np.ndarray],
    *,
    terms: list[str] | None,
    pooling: str | None,
    strength: float,
    class_count: int,
) -> FittedBaseline:
    """Restore a baseline from its tensors and settings.

    Args:
        tensors: of `FittedBaseline.tensors`.
        terms: of TF-IDF features, in their order; None for pooled features.
        pooling: of pooled features; None for TF-IDF.
        strength: scikit-learn's C.
        class_count: how many classes there are, those that train lacks among them.

    Raises:
        KeyError: a tensor is missing.
        ValueError: the shapes of tensors do not fit each other.
    """
    weights, bias = tensors["weights"], tensors["bias"]
    features: TfidfFeatures | PooledFeatures
    if terms is not None:
        features = TfidfFeatures(terms, tensors["idf"])
        widths = {len(terms), *features.idf.shape}
    else:
        features = PooledFeatures(str(pooling), tensors["mean"], tensors["scale"])
        widths = {*features.mean.shape, *features.scale.shape}
    if widths != {weights.shape[1]} or bias.shape != weights.shape[:1]:
        raise ValueError("the shapes of its tensors do not fit each other")
    model = LinearModel(
        weights, bias, weights.size + bias.size, tensors.get("classes"), class_count
    )
    return FittedBaseline(features, model, strength)


def make_vectorizer(**options: Any) -> Any:
    """Make a TfidfVectorizer of scikit-learn for the terms of texts.

    Args:
        options: further arguments, such as `min_df` or `vocabulary`.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        ngram_range=NGRAM_RANGE,
        tokenizer=find_terms,
        token_pattern=None,
        lowercase=False,
        sublinear_tf=True,
        **options,
    )
