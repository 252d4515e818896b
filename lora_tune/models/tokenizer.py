"""Loads a base model's tokenizer, sets it up as the recipe says, and saves it."""

from pathlib import Path
from typing import TYPE_CHECKING

from lora_tune.config.data import DataConfig
from lora_tune.config.model import ModelConfig
from lora_tune.data.chats import set_chat_template
from lora_tune.errors import ModelError, first_line
from lora_tune.models.checkpoint import NEEDS_SENTENCEPIECE, Checkpoint, lacks_sentencepiece
from lora_tune.models.configuration import load_config
from lora_tune.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(
    checkpoint: Checkpoint, config: ModelConfig, *, data: DataConfig
) -> "PreTrainedTokenizerBase":
    """Load a base model's tokenizer, with a pad token and the recipe's truncation and template.

    Raises:
        ModelError: there is no fast tokenizer, it has no token to pad with and no chat template
            where one is needed, or `data.max_length` exceeds the model's positions.
    """
    from transformers import AutoTokenizer

    name = checkpoint.name
    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, trust_remote_code=False)
    except (ValueError, OSError, KeyError, ImportError) as error:
        problem = NEEDS_SENTENCEPIECE if lacks_sentencepiece(checkpoint) else first_line(error)
        raise ModelError(f"{name}: its tokenizer does not load: {problem}") from None
    if not tokenizer.is_fast:
        raise ModelError(f"{name}: its tokenizer has no fast version (tokenizer.json)")
    positions = getattr(load_config(checkpoint).get_text_config(), "max_position_embeddings", None)
    limit = min(tokenizer.model_max_length, positions or tokenizer.model_max_length)
    if data.max_length > limit:
        raise ModelError(
            f"data.max_length: found {data.max_length} tokens, but {name} takes at most {limit}"
        )
    if config.pad_token:
        tokenizer.add_special_tokens({"pad_token": config.pad_token})
    elif tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError(
                f"{name}: its tokenizer has no pad token and no end-of-text token; add a pad token "
                "with model.pad_token='<pad>'"
            )
        tokenizer.pad_token = tokenizer.eos_token
    if data.is_chat:
        set_chat_template(tokenizer, data, checkpoint=name)
    tokenizer.truncation_side = data.truncation_side
    tokenizer.model_max_length = data.max_length
    return tokenizer


def save_tokenizer(tokenizer: "PreTrainedTokenizerBase", folder: Path, task: Task) -> None:
    """Save a run's tokenizer, with a chat template only where the task generates text."""
    if task.generation is None or not isinstance(tokenizer.chat_template, str):
        tokenizer.chat_template = None  # several templates would be written as a folder
    tokenizer.save_pretrained(folder)
