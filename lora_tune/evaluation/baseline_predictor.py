"""A fitted baseline that predicts for rows, as an adapter does."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lora_tune.data.batching import make_collator
from lora_tune.data.preprocessing import format_row
from lora_tune.evaluation.fitted_baselines import FittedBaseline, TfidfFeatures
from lora_tune.evaluation.pooled_features import extract_features
from lora_tune.evaluation.predictor import Predictor


@dataclass(frozen=True)
class BaselinePredictor(Predictor):
    """A TF-IDF baseline, which has no model and no tokenizer; or a linear probe, which has both."""

    fitted: FittedBaseline = field(kw_only=True)

    def compute_outputs(self, inputs: Sequence[Any], *, title: str = "") -> list[np.ndarray]:
        """Compute the outputs of inputs, (1, numbers) for each; see `Task`."""
        features = self.fitted.features
        if isinstance(features, TfidfFeatures):
            found = features.transform([format_row(given) for given in inputs])
        else:
            columns, _ = self.task.tokenize(
                inputs, None, self.tokenizer, self.tokenizer.model_max_length
            )
            collate = make_collator(self.tokenizer, self.task, self.model)
            _, pooled = extract_features(self.model, columns, collate=collate, title=title)
            found = features.transform(pooled[features.pooling])
        return list(self.fitted.model.predict(found)[:, None])
