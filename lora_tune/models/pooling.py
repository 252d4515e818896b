"""Mean pooling: the logits of a token classification head, averaged over the tokens of a row.

A linear head commutes with the mean, so the mean of the tokens' logits is the head's output for the
mean of the last hidden states. That is how sentence encoders are trained, and plain transformers
and PEFT load such a model, as one for token classification.

Source: Reimers and Gurevych 2019, arXiv 1908.10084, section 3.
"""

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_tune.config.model import ModelConfig
from lora_tune.errors import ModelError
from lora_tune.models.checkpoint import Checkpoint
from lora_tune.models.configuration import load_config
from lora_tune.tasks import Pooling

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

POOLING_FILE = "1_Pooling/config.json"  # of a checkpoint of sentence-transformers
MEAN_KEY = "pooling_mode_mean_tokens"  # in it


def resolve_pooling(checkpoint: Checkpoint, config: ModelConfig) -> Pooling:
    """Resolve `model.pooling`: what the recipe says, or what the base model was trained with.

    Raises:
        ModelError: the recipe says `mean`, and the architecture has no token classification model.
    """
    if config.pooling == "mean" and not _has_token_classifier(checkpoint):
        raise ModelError(
            f"model.pooling: mean needs a base model that transformers has for token "
            f"classification, which {checkpoint.name} is not; use model"
        )
    if config.pooling != "auto":
        return config.pooling
    try:
        content = json.loads((checkpoint.folder / POOLING_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "model"
    is_mean = isinstance(content, dict) and content.get(MEAN_KEY) is True
    return "mean" if is_mean and _has_token_classifier(checkpoint) else "model"


def _has_token_classifier(checkpoint: Checkpoint) -> bool:
    from transformers import MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING

    return type(load_config(checkpoint)) in MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING


def pool_mean(model: "PreTrainedModel") -> None:
    """Make a token classification model return one row of logits for each text, in place.

    Its class keeps its name, which `save_pretrained` writes into the configuration.
    """
    token_class: Any = type(model)
    signature = inspect.signature(token_class.forward)

    class MeanPooled(token_class):
        """The model with the mean of its tokens' logits, (rows, classes), as its logits."""

        def forward(self, *arguments: Any, **named: Any) -> Any:
            output = super().forward(*arguments, **named)
            mask = signature.bind(self, *arguments, **named).arguments.get("attention_mask")
            output.logits = mean_of_tokens(output.logits, mask)
            return output

    MeanPooled.__name__ = MeanPooled.__qualname__ = token_class.__name__
    MeanPooled.__module__ = token_class.__module__
    MeanPooled.forward.__signature__ = signature  # type: ignore[attr-defined]
    model.__class__ = MeanPooled


def write_pooling(folder: Path, width: int) -> None:
    """Write that a model is mean-pooled, as sentence-transformers does, for `resolve_pooling`.

    Args:
        width: of the hidden states.
    """
    path = folder / POOLING_FILE
    path.parent.mkdir()
    content = {"word_embedding_dimension": width, MEAN_KEY: True}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def mean_of_tokens(states: "torch.Tensor", mask: "torch.Tensor | None") -> "torch.Tensor":
    """Average states (rows, tokens, numbers) over tokens that are not padding.

    Args:
        mask: (rows, tokens), 0 for padding; None where there is none.

    Returns:
        (rows, numbers), fp32.
    """
    if mask is None:
        return states.float().mean(dim=1)
    weights = mask.unsqueeze(-1).float()  # (rows, tokens, 1)
    return (states.float() * weights).sum(dim=1) / weights.sum(dim=1)
