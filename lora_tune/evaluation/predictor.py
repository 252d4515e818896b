"""A model that predicts for rows: at hand after training, or loaded from a saved adapter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.config.data import DataConfig
from lora_tune.config.generation import GenerationConfig
from lora_tune.data.batching import make_collator
from lora_tune.data.preprocessing import Preprocessor, Row
from lora_tune.errors import DataError
from lora_tune.evaluation.generation import Completion, make_generator
from lora_tune.evaluation.model_evaluation import compute_outputs
from lora_tune.tasks import Task

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Predictor:
    """A model that predicts for rows, with everything it needs to do so."""

    model: "Module"
    tokenizer: "PreTrainedTokenizerBase"  # truncates to its model_max_length
    task: Task
    labels: list[str]
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    data: DataConfig = field(default_factory=DataConfig)  # how a row becomes an input

    @property
    def preprocessor(self) -> Preprocessor:
        """What turns rows into inputs."""
        return Preprocessor(self.task, self.data, self.tokenizer)

    def predict(self, rows: Sequence[Row], *, title: str = "") -> list[Any]:
        """Predict for rows, one prediction each, in their order.

        Args:
            rows: texts; or the columns of `preprocessor.columns` by name, where there are several.
            title: of a progress bar; empty for none.

        Returns:
            The task's own predictions, such as ClassPrediction, Entities or Completion.

        Raises:
            DataError: a text is empty, or a column is missing.
        """
        if isinstance(rows, (str, Mapping)):
            raise DataError("texts: found one, expected a list of them")
        return self.predict_inputs(
            self.preprocessor.preprocess_rows(rows, where="texts"), title=title
        )

    def predict_inputs(self, inputs: Sequence[Any], *, title: str = "") -> list[Any]:
        """Predict for preprocessed rows; see `predict`."""
        if not inputs:
            return []
        generator = make_generator(self.task, self.tokenizer, self.generation)
        if generator is not None:
            return [Completion(t) for t in generator.generate(self.model, inputs, title=title)]
        outputs = self.compute_outputs(inputs, title=title)
        return [
            self.task.format(row, given, self.labels)
            for row, given in zip(outputs, inputs, strict=True)
        ]

    def compute_outputs(self, inputs: Sequence[Any], *, title: str = "") -> list[np.ndarray]:
        """Run the model over inputs; fp32, (outputs, numbers) for each; see `Task`."""
        columns, _ = self.task.tokenize(
            inputs, None, self.tokenizer, self.tokenizer.model_max_length
        )
        return compute_outputs(
            self.model,
            columns,
            task=self.task,
            collate=make_collator(self.tokenizer, self.task, self.model),
            title=title,
        )
