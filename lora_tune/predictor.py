"""A model that answers texts: at hand while training, or loaded from a saved adapter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.adapter import load_adapter_weights
from lora_tune.artifact import Artifact, find_adapter, find_adapter_base
from lora_tune.batching import make_collator
from lora_tune.environment import find_device
from lora_tune.errors import ArtifactError, DataError, first_line
from lora_tune.evaluation import answer_rows
from lora_tune.intake import Intake, Row
from lora_tune.model import load_model
from lora_tune.recipe import DataConfig, GenerationConfig
from lora_tune.tasks import Task
from lora_tune.tasks.writing_task import Completion, WritingTask
from lora_tune.writing import Writer

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Predictor:
    """A model that answers texts, with everything it needs to do so."""

    model: "Module"
    tokenizer: "PreTrainedTokenizerBase"  # truncates to its model_max_length
    task: Task
    labels: list[str]
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    data: DataConfig = field(default_factory=DataConfig)  # what makes an input of a row

    @property
    def intake(self) -> Intake:
        """What it wants of a row."""
        return Intake(self.task, self.data, self.tokenizer)

    def predict(self, rows: Sequence[Row], *, title: str = "") -> list[Any]:
        """Answer rows, one answer each, in their order.

        Args:
            rows: texts; or the columns of `intake.columns` by name, where they are several.
            title: of a progress bar; empty for none.

        Returns:
            The task's own answers: Prediction, Labels, Value, Entities or Completion.

        Raises:
            DataError: a text is empty, or a column is not there.
        """
        if isinstance(rows, (str, Mapping)):
            raise DataError("texts: found one, expected a list of them")
        return self.predict_inputs(self.intake.take_all(rows, where="texts"), title=title)

    def predict_inputs(self, inputs: Sequence[Any], *, title: str = "") -> list[Any]:
        """Answer what the intake made of rows; see `predict`."""
        if not inputs:
            return []
        if isinstance(self.task, WritingTask):
            writer = Writer(self.tokenizer, self.task, self.generation)
            return [Completion(text) for text in writer.write(self.model, inputs, title=title)]
        answers = self.answer(inputs, title=title)
        return [
            self.task.tell(answer, given, self.labels)
            for answer, given in zip(answers, inputs, strict=True)
        ]

    def answer(self, inputs: Sequence[Any], *, title: str = "") -> list[np.ndarray]:
        """Run the model over one input of the task's or more; fp32, (answers, numbers) for each."""
        columns, _ = self.task.encode(inputs, None, self.tokenizer, self.tokenizer.model_max_length)
        return answer_rows(
            self.model,
            columns,
            task=self.task,
            collate=make_collator(self.tokenizer, self.task, self.model),
            title=title,
        )


def load_adapter(source: str | Path, *, base: str | None = None) -> Predictor:
    """Load a verified adapter and its base model, for inference.

    Args:
        source: an adapter directory, or a Hub id, `owner/name` or `owner/name@revision`.
        base: where its base is; None for the place that the adapter names.

    Raises:
        ArtifactError: the adapter is damaged or incomplete, or the base is not its own.
        ModelError: its base model cannot be found.
    """
    return load_predictor(find_adapter(source), base)


def load_predictor(artifact: Artifact, base: str | None = None) -> Predictor:
    """Load an adapter that has been verified; see `load_adapter`."""
    model, tokenizer, _ = load_adapter_base(artifact, base)
    adapted = load_adapter_weights(model, artifact.folder)
    return Predictor(
        adapted,
        tokenizer,
        artifact.task,
        artifact.manifest.labels,
        artifact.generation,
        artifact.data,
    )


def load_intake(artifact: Artifact) -> Intake:
    """Load what an adapter wants of a row, without its model."""
    return Intake(artifact.task, artifact.data, load_adapter_tokenizer(artifact.folder))


def load_adapter_base(
    artifact: Artifact, base: str | None = None, *, in_full: bool = False
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase", bool]:
    """Load the base of an adapter, ready to take it; seed before, for a fresh head.

    Args:
        in_full: whether to load in full precision what was rounded while training.

    Returns:
        The model, on its device; the adapter's tokenizer; whether the model's head is fresh.
    """
    found, config = find_adapter_base(artifact, base)
    if in_full:
        config = config.in_full()
    tokenizer = load_adapter_tokenizer(artifact.folder)
    model, _, fresh_head = load_model(
        found,
        config,
        task=artifact.task,
        labels=artifact.manifest.labels,
        tokenizer=tokenizer,
    )
    if config.quantization is None:  # bitsandbytes places its own
        model.to(find_device())
    return model, tokenizer, fresh_head


def load_adapter_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Load the tokenizer that travels with an adapter.

    Raises:
        ArtifactError: it is damaged.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError, KeyError, AttributeError, TypeError) as error:
        raise ArtifactError(f"{folder}: its tokenizer is damaged: {first_line(error)}") from None
