"""The rungs that cost next to nothing: what a LoRA adapter has to clear to have been worth it."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.cache import Arrays, hash_model, hash_rows, pack, recall, unpack
from lora_tune.data import Data
from lora_tune.evaluation import Evaluation, judge_answers
from lora_tune.features import read_features
from lora_tune.linear import Linear
from lora_tune.rows import Split
from lora_tune.tasks import Task
from lora_tune.writing import Writer, evaluate_test, judge_texts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WORD_STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # scikit-learn's C, the inverse of regularisation
HEAD_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# A term is a word of two characters or more, as scikit-learn's own pattern has it, or one character
# of a script without spaces between words: Thai, Lao, Khmer, kana, Chinese characters.
SPACELESS = r"\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
TERM = rf"[{SPACELESS}]|[^\W{SPACELESS}]{{2,}}"
MOST_WEIGHTS = 4_000_000  # of words alone; the rarest terms of more are left out


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
    task: Task,
    *,
    collate: Callable[..., Any],
    writer: Writer | None = None,
) -> list[Rung]:
    """Climb all that needs no training of the model.

    Args:
        writer: lets the base write for the test rows, where that decides; else None.

    Returns:
        The base as it is; before it, where a linear model can answer, what needs no look at the
        row, and words alone, and after it the head alone; else what the task answers by itself.
    """
    if task.linear is None:
        base = _evaluate_base(model, data, task, collate=collate, writer=writer)
        return [*_answer_without_model(data, task, writer), Rung("base", base, 0, 0.0)]
    weights = hash_model(model)
    found = {
        name: _recall_features(model, weights, split, collate=collate, title=f"base, {name}")
        for name, split in data.splits.items()
    }
    answers = list(found["test"].logits[:, None])
    seconds = found["train"].seconds + found["validation"].seconds
    ways = found["test"].pooled
    pooled = {way: {name: found[name].pooled[way] for name in found} for way in ways}
    return [
        idle_rung(data, task),
        words_rung(data, task),
        Rung("base", judge_answers(answers, data.test, task), 0, 0.0),
        head_rung(pooled, data, task, feature_seconds=seconds),
    ]


@dataclass(frozen=True)
class _Features:
    logits: np.ndarray  # (rows, classes)
    pooled: dict[str, np.ndarray]  # way of pooling -> (rows, width)
    seconds: float  # that it took, now or when it was made


def _recall_features(
    model: "PreTrainedModel",
    weights: str,
    split: Split,
    *,
    collate: Callable[..., Any],
    title: str,
) -> _Features:
    columns = split.encoded[:]

    def make() -> Arrays:
        start = time.perf_counter()
        logits, pooled = read_features(model, columns, collate=collate, title=title)
        seconds = np.array(time.perf_counter() - start)
        return {"logits": logits, "seconds": seconds} | pooled

    arrays = recall("features", {"model": weights, "rows": hash_rows(columns)}, make)
    logits, seconds = arrays.pop("logits"), float(arrays.pop("seconds"))
    return _Features(logits, arrays, seconds)


def _evaluate_base(
    model: "PreTrainedModel",
    data: Data,
    task: Task,
    *,
    collate: Callable[..., Any],
    writer: Writer | None,
) -> Evaluation:
    columns = data.test.encoded[:]

    def make() -> Arrays:
        made = evaluate_test(model, data.test, task, collate=collate, writer=writer, title="base")
        texts = {} if made.texts is None else {"texts": _as_bytes(made.texts)}
        return pack("answers", made.answers) | texts

    key = {"model": hash_model(model), "rows": hash_rows(columns | {"in": data.test.rows.inputs})}
    arrays = recall("answers", key | {"writing": repr(writer and writer.config)}, make)
    evaluation = judge_answers(unpack("answers", arrays), data.test, task)
    if writer is None or "texts" not in arrays:
        return evaluation
    texts = json.loads(arrays["texts"].tobytes())
    return judge_texts(texts, data.test, writer.measure, evaluation)


def _as_bytes(texts: list[str]) -> np.ndarray:
    return np.frombuffer(json.dumps(texts).encode(), dtype=np.uint8)


def _answer_without_model(data: Data, task: Task, writer: Writer | None) -> Iterator[Rung]:
    start = time.perf_counter()
    for name, rival in task.answer_without_model(data.train, data.test).items():
        if rival.texts is None:
            evaluation = judge_answers(rival.answers, data.test, task)
        elif writer is not None and writer.config.metric:
            evaluation = judge_texts(rival.texts, data.test, writer.measure)
        else:
            continue
        yield Rung(name, evaluation, rival.size, time.perf_counter() - start, rival.note)


def idle_rung(data: Data, task: Task) -> Rung:
    """Answer every row alike, with what train tells of its labels."""
    start = time.perf_counter()
    assert task.linear is not None
    idle = task.linear.idle(data.train.rows.labels, data.labels)
    answers = [idle.answer[None] for _ in data.test.rows.texts]
    evaluation = judge_answers(answers, data.test, task)
    return Rung(idle.rung, evaluation, 0, time.perf_counter() - start, idle.note)


def words_rung(data: Data, task: Task) -> Rung:
    """Fit a linear model to the TF-IDF of one- and two-word terms: no language model at all."""
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
        evaluation = idle_rung(data, task).evaluation
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
    task: Task,
    *,
    feature_seconds: float,
) -> Rung:
    """Fit a linear model to the frozen model's pooled features: a head alone.

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
    task: Task,
    *,
    title: str,
) -> _Fitted:
    """Fit on train, choose inputs and strength on validation, answer test.

    Args:
        inputs: what they are called -> split -> (rows, width).
    """
    from tqdm import tqdm

    assert task.linear is not None
    best: tuple[tuple[float, float], str, Linear, Any] | None = None
    candidates = [(name, strength) for name in inputs for strength in strengths]
    for name, strength in tqdm(candidates, desc=title, unit="fit", disable=None, leave=False):
        model = task.linear.fit(
            inputs[name]["train"], data.train.rows.labels, data.labels, strength
        )
        answers = list(model.answer(inputs[name]["validation"])[:, None])
        metrics = judge_answers(answers, data.validation, task).metrics
        sign = -1 if task.measure.lower_is_better else 1
        score = (sign * metrics[task.measure.name], -metrics["loss"])
        if best is None or score > best[0]:
            best = (score, f"{name}, C={strength:g}", model, inputs[name]["test"])
    assert best is not None
    _, note, model, test = best
    evaluation = judge_answers(list(model.answer(test)[:, None]), data.test, task)
    return _Fitted(evaluation, model.size, note)


def _standardise(features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    from sklearn.preprocessing import StandardScaler

    scale = StandardScaler().fit(features["train"])
    return {split: scale.transform(values) for split, values in features.items()}
