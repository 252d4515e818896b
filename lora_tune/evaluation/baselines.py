"""The baselines that need no training of the model, and which of them fit a task."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.data.rows import Split
from lora_tune.evaluation.generation import (
    TextGenerator,
    evaluate_test,
    evaluate_texts,
    make_generator,
)
from lora_tune.evaluation.lexical_baselines import lead_baseline, most_frequent_tag
from lora_tune.evaluation.linear_baselines import constant_baseline, linear_probe, tfidf_baseline
from lora_tune.evaluation.linear_models import LINEAR_MODELS
from lora_tune.evaluation.model_evaluation import Evaluation, evaluate_outputs
from lora_tune.evaluation.pooled_features import extract_features
from lora_tune.evaluation.predictor import Predictor
from lora_tune.evaluation.results import BASE, CONSTANT, MAJORITY, Result
from lora_tune.models.layers import unquantized_modules
from lora_tune.models.quantization import WeightMemory, measure_weight_memory
from lora_tune.run_context import RunContext
from lora_tune.system.cache import Arrays, get_or_compute, hash_model, hash_rows, pack, unpack
from lora_tune.tasks import Prediction, Task, primary_metric_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CODE = ("data", "evaluation", "models", "tasks")  # what cached features and outputs depend on


@dataclass(frozen=True)
class Baselines:
    """Results that need no training of the model, and what is known about the base model."""

    results: list[Result]
    example_predictions: list[Prediction]  # of the base model, for the recipe's examples
    weight_memory: WeightMemory  # of the base model
    unquantized: list[str]  # modules of the base model that are never quantized
    untrained_head: bool  # whether the base model's head is random

    @property
    def constant_metrics(self) -> dict[str, float] | None:
        """The test metrics of the constant prediction; None where the task has no such baseline.

        They stand for those of a model that has learned nothing, on validation rows too.
        """
        constants = (r for r in self.results if r.name in (MAJORITY, CONSTANT))
        return next((result.evaluation.metrics for result in constants), None)


def evaluate_baselines(context: RunContext) -> Baselines:
    """Evaluate the base model on the test rows, and every baseline that fits the task.

    Where a row has one output: a constant, TF-IDF with a linear model, the base model as it is, and
    a linear probe on its features. For tags: each word's most frequent tag. For texts that an
    encoder-decoder generates: the beginning of each prompt.
    """
    task, data, recipe = context.task, context.data, context.recipe
    model, _, untrained_head = context.load_base_model(recipe.all_seeds[0])
    memory, unquantized = measure_weight_memory(model), unquantized_modules(model)
    collate = context.collate(model)
    if task.output_kind in LINEAR_MODELS:
        results = _evaluate_with_features(model, context, collate)
        (task,) = (result.evaluation.task for result in results if result.name == BASE)
    else:
        generator = make_generator(task, context.tokenizer, recipe.generation)
        evaluation = _evaluate_base(model, context, collate, generator)
        results = [*_lexical_baselines(context), Result(BASE, evaluation, 0, 0.0)]
    predictor = Predictor(
        model, context.tokenizer, task, data.labels, recipe.generation, recipe.data
    )
    predictions = predictor.predict_inputs(context.example_inputs)
    return Baselines(results, predictions, memory, unquantized, untrained_head)


def _lexical_baselines(context: RunContext) -> list[Result]:
    task, data = context.task, context.data
    generation = context.recipe.generation
    if task.output_kind == "tags":
        return [most_frequent_tag(data.train, data.test, task)]
    if task.generation is not None and task.generation.is_encoder_decoder and generation.metric:
        return [
            lead_baseline(data.train, data.test, task, metric=primary_metric_of(task, generation))
        ]
    return []


def _evaluate_with_features(
    model: "PreTrainedModel", context: RunContext, collate: Callable[..., Any]
) -> list[Result]:
    """Evaluate everything of one output a row; the base model runs once over each split."""
    task, data = context.task, context.data
    weights = hash_model(model)
    found = {
        name: _cached_features(model, weights, split, collate=collate, title=f"base model, {name}")
        for name, split in data.splits.items()
    }
    outputs = {name: list(features.logits[:, None]) for name, features in found.items()}
    tuned = task.tune(outputs["train"], data.train)  # which the base model has not seen either
    seconds = found["train"].seconds + found["validation"].seconds
    ways = found["test"].pooled
    pooled = {way: {name: found[name].pooled[way] for name in found} for way in ways}
    return [
        constant_baseline(data, task),
        tfidf_baseline(data, task),
        Result(BASE, evaluate_outputs(outputs["test"], data.test, tuned), 0, 0.0),
        linear_probe(pooled, data, task, feature_seconds=seconds),
    ]


@dataclass(frozen=True)
class _Features:
    logits: np.ndarray  # (rows, classes)
    pooled: dict[str, np.ndarray]  # way of pooling -> (rows, width)
    seconds: float  # that it took, now or when it was computed


def _cached_features(
    model: "PreTrainedModel",
    weights: str,
    split: Split,
    *,
    collate: Callable[..., Any],
    title: str,
) -> _Features:
    columns = split.encoded[:]

    def compute() -> Arrays:
        start = time.perf_counter()
        logits, pooled = extract_features(model, columns, collate=collate, title=title)
        seconds = np.array(time.perf_counter() - start)
        return {"logits": logits, "seconds": seconds} | pooled

    key = {"model": weights, "rows": hash_rows(columns)}
    arrays = get_or_compute("features", key, compute, code=CODE)
    logits, seconds = arrays.pop("logits"), float(arrays.pop("seconds"))
    return _Features(logits, arrays, seconds)


def _evaluate_base(
    model: "PreTrainedModel",
    context: RunContext,
    collate: Callable[..., Any],
    generator: TextGenerator | None,
) -> Evaluation:
    """Evaluate the base model on the test rows, or take its outputs and texts from the cache."""
    task: Task = context.task
    test = context.data.test
    columns = test.encoded[:]

    def compute() -> Arrays:
        made = evaluate_test(
            model, test, task, collate=collate, generator=generator, title="base model"
        )
        texts = {} if made.texts is None else {"texts": _as_bytes(made.texts)}
        return pack("outputs", made.outputs) | texts

    key = {
        "model": hash_model(model),
        "rows": hash_rows(columns | {"in": test.rows.inputs}),
        "generation": repr(generator and generator.config),
    }
    arrays = get_or_compute("outputs", key, compute, code=CODE)
    evaluation = evaluate_outputs(unpack("outputs", arrays), test, task)
    if "texts" not in arrays:
        return evaluation
    texts = json.loads(arrays["texts"].tobytes())
    metric = primary_metric_of(task, context.recipe.generation)
    return evaluate_texts(texts, test, task, metric=metric, evaluation=evaluation)


def _as_bytes(texts: list[str]) -> np.ndarray:
    return np.frombuffer(json.dumps(texts).encode(), dtype=np.uint8)
