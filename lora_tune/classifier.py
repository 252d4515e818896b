"""A model that classifies texts: at hand while training, or loaded from a saved adapter."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lora_tune.adapter import load_adapter_weights
from lora_tune.artifact import Artifact, find_adapter, find_adapter_base
from lora_tune.batching import make_collator
from lora_tune.data import text_fault
from lora_tune.encoding import encode
from lora_tune.environment import find_device
from lora_tune.errors import ArtifactError, DataError, first_line
from lora_tune.evaluation import predict_logits
from lora_tune.metrics import softmax
from lora_tune.model import load_model
from lora_tune.tasks import find_task

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Prediction:
    """What a model says of one text."""

    label: str
    probabilities: dict[str, float]  # of each label


@dataclass(frozen=True)
class Classifier:
    """A model that classifies texts, with everything it needs to do so."""

    model: "Module"
    tokenizer: "PreTrainedTokenizerBase"  # truncates to its model_max_length
    labels: list[str]

    def predict(self, texts: Sequence[str], *, title: str = "") -> list[Prediction]:
        """Classify texts, one prediction each, in their order.

        Args:
            title: of a progress bar; empty for none.

        Raises:
            DataError: a text is empty.
        """
        if isinstance(texts, str):
            raise DataError("texts: found one text, expected a list of them")
        for row, text in enumerate(texts):
            fault = text_fault(text)
            if fault:
                raise DataError(f"texts, row {row} (rows count from 0): {fault}")
        if not texts:
            return []
        return [
            Prediction(
                self.labels[row.argmax()], dict(zip(self.labels, map(float, row), strict=True))
            )
            for row in softmax(self.logits(texts, title=title))
        ]

    def logits(self, texts: Sequence[str], *, title: str = "") -> np.ndarray:
        """Run the model over one text or more; fp32, (texts, classes)."""
        columns, _ = encode(texts, self.tokenizer, self.tokenizer.model_max_length)
        collate = make_collator(self.tokenizer)
        return predict_logits(self.model, columns, collate=collate, title=title)


def load_adapter(source: str | Path, *, base: str | None = None) -> Classifier:
    """Load a verified adapter and its base model, for inference.

    Args:
        source: an adapter directory, or a Hub id, `owner/name` or `owner/name@revision`.
        base: where its base is; None for the place that the adapter names.

    Raises:
        ArtifactError: the adapter is damaged or incomplete, or the base is not its own.
        ModelError: its base model cannot be found.
    """
    return load_classifier(find_adapter(source), base)


def load_classifier(artifact: Artifact, base: str | None = None) -> Classifier:
    """Load an adapter that has been verified; see `load_adapter`."""
    model, tokenizer, _ = load_adapter_base(artifact, base)
    adapted = load_adapter_weights(model, artifact.folder)
    return Classifier(adapted, tokenizer, artifact.manifest.labels)


def load_adapter_base(
    artifact: Artifact, base: str | None = None, *, quantized: bool = True
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase", bool]:
    """Load the base of an adapter, ready to take it; seed before, for a fresh head.

    Args:
        quantized: False loads in full precision what was quantised while training.

    Returns:
        The model, on its device; the adapter's tokenizer; whether the model's head is fresh.
    """
    found, config = find_adapter_base(artifact, base)
    if not quantized:
        config = replace(config, quantization=None)
    tokenizer = load_adapter_tokenizer(artifact.folder)
    model, _, fresh_head = load_model(
        found,
        config,
        task=find_task(artifact.manifest.task),
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
