"""The rungs that cost next to nothing: what a LoRA adapter has to clear to have been worth it."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.data import Data
from lora_tune.evaluation import Evaluation
from lora_tune.features import read_features
from lora_tune.tasks import SequenceClassification

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WORD_STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # scikit-learn's C, the inverse of regularisation
HEAD_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# A term is a word of two characters or more, as scikit-learn's own pattern has it, or one character
# of a script without spaces between words: Thai, Lao, Khmer, kana, Chinese characters.
SPACELESS = r"\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
TERM = rf"[{SPACELESS}]|[^\W{SPACELESS}]{{2,}}"
MOST_WEIGHTS = 4_000_000  # of words alone; the rarest terms of more are left out
MOST_ITERATIONS = 2000  # of a logistic regression's solver
LEAST = 1e-12  # a probability's floor, so that its logarithm is finite


@dataclass(frozen=True)
class Rung:
    """One way to answer the test rows, and what it took."""

    name: str
    evaluation: Evaluation  # on the test rows
    trained_parameters: int | None  # None where it was trained elsewhere
    train_seconds: float | None
    note: str = ""  # what was chosen on validation rows


def cheap_rungs(
    model: "PreTrainedModel",
    data: Data,
    task: SequenceClassification,
    *,
    collate: Callable[..., Any],
) -> list[Rung]:
    """Climb all that needs no training of the model: majority, words, base and head alone."""
    logits, test = read_features(model, data.test.encoded[:], collate=collate, title="base")
    start = time.perf_counter()
    features = {"test": test}
    for name in ("train", "validation"):
        columns = data.splits[name].encoded[:]
        _, features[name] = read_features(model, columns, collate=collate, title=f"base, {name}")
    seconds = time.perf_counter() - start
    pooled = {way: {split: features[split][way] for split in features} for way in test}
    base = Evaluation(logits, task.score(logits, data.test.rows.labels))
    return [
        majority_rung(data, task),
        words_rung(data, task),
        Rung("base", base, 0, 0.0),
        head_rung(pooled, data, task, feature_seconds=seconds),
    ]


def majority_rung(data: Data, task: SequenceClassification) -> Rung:
    """Answer every row with train's commonest class, as likely as it is there."""
    start = time.perf_counter()
    counts = np.bincount(data.train.rows.labels, minlength=len(data.labels))
    shares = np.tile(counts / counts.sum(), (len(data.test.rows.texts), 1))
    evaluation = _evaluate(shares, data.test.rows.labels, task)
    note = f"always {data.labels[counts.argmax()]}"
    return Rung("majority", evaluation, 0, time.perf_counter() - start, note)


def words_rung(data: Data, task: SequenceClassification) -> Rung:
    """Fit a logistic regression to the TF-IDF of one- and two-word terms: no model at all."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    start = time.perf_counter()
    for least_rows in (2, 1):  # a term of one row says nothing of others, unless all are so
        terms = TfidfVectorizer(
            ngram_range=(1, 2),
            token_pattern=TERM,
            sublinear_tf=True,
            min_df=least_rows,
            max_features=MOST_WEIGHTS // len(data.labels),
        )
        try:
            train = terms.fit_transform(data.train.rows.texts)
            break
        except ValueError:  # no term is left
            continue
    else:
        evaluation = majority_rung(data, task).evaluation
        return Rung("words", evaluation, 0, time.perf_counter() - start, "no words in train")
    inputs = {
        "train": train,
        "validation": terms.transform(data.validation.rows.texts),
        "test": terms.transform(data.test.rows.texts),
    }
    named = {f"{len(terms.vocabulary_):,} terms": inputs}
    fitted = _fit_best(named, WORD_STRENGTHS, data, task, title="words alone")
    return Rung("words", fitted.evaluation, fitted.size, time.perf_counter() - start, fitted.note)


def head_rung(
    pooled: Mapping[str, Mapping[str, np.ndarray]],
    data: Data,
    task: SequenceClassification,
    *,
    feature_seconds: float,
) -> Rung:
    """Fit a logistic regression to the frozen model's pooled features: a head alone.

    Args:
        pooled: way of pooling -> split -> features, (rows, width).
        feature_seconds: what running the frozen model over train and validation took.
    """
    start = time.perf_counter()
    inputs = {f"{name} pooled": _standardise(features) for name, features in pooled.items()}
    fitted = _fit_best(inputs, HEAD_STRENGTHS, data, task, title="head alone")
    seconds = feature_seconds + time.perf_counter() - start
    return Rung("head", fitted.evaluation, fitted.size, seconds, fitted.note)


@dataclass(frozen=True)
class _Fitted:
    evaluation: Evaluation
    size: int  # numbers that were fitted
    note: str


def _fit_best(
    inputs: Mapping[str, Mapping[str, Any]],
    strengths: Iterable[float],
    data: Data,
    task: SequenceClassification,
    *,
    title: str,
) -> _Fitted:
    """Fit on train, choose inputs and strength on validation, answer test.

    Args:
        inputs: what they are called -> split -> (rows, width).
    """
    from sklearn.linear_model import LogisticRegression
    from tqdm import tqdm

    best: tuple[tuple[float, float], str, Any] | None = None
    candidates = [(name, strength) for name in inputs for strength in strengths]
    for name, strength in tqdm(candidates, desc=title, unit="fit", disable=None, leave=False):
        model = LogisticRegression(C=strength, max_iter=MOST_ITERATIONS)
        model.fit(inputs[name]["train"], data.train.rows.labels)
        shares = _answer(model, inputs[name]["validation"], data)
        metrics = _evaluate(shares, data.validation.rows.labels, task).metrics
        score = (metrics[task.metric], -metrics["loss"])
        if best is None or score > best[0]:
            best = (score, f"{name}, C={strength:g}", (model, inputs[name]["test"]))
    assert best is not None
    _, note, (model, test) = best
    evaluation = _evaluate(_answer(model, test, data), data.test.rows.labels, task)
    return _Fitted(evaluation, model.coef_.size + model.intercept_.size, note)


def _standardise(features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    from sklearn.preprocessing import StandardScaler

    scale = StandardScaler().fit(features["train"])
    return {split: scale.transform(values) for split, values in features.items()}


def _answer(model: Any, inputs: Any, data: Data) -> np.ndarray:
    """Probabilities of all classes, (rows, classes), 0 for those that train does not hold."""
    shares = np.zeros((inputs.shape[0], len(data.labels)))
    shares[:, model.classes_] = model.predict_proba(inputs)
    return shares


def _evaluate(shares: np.ndarray, labels: np.ndarray, task: SequenceClassification) -> Evaluation:
    logits = np.log(np.maximum(shares, LEAST))
    return Evaluation(logits, task.score(logits, labels))
