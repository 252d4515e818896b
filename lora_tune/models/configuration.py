"""Reads a base model's configuration and adapts it to the task and the recipe."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lora_tune.config.generation import GenerationConfig
from lora_tune.config.model import ModelConfig
from lora_tune.errors import ModelError, first_line
from lora_tune.models.checkpoint import CONFIG_FILE, Checkpoint
from lora_tune.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

# Names of the trunk's dropout probabilities in the configurations of transformers.
TRUNK_DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "hidden_dropout",
    "attention_dropout",
    "activation_dropout",
    "embedding_dropout",
    "mlp_dropout",
    "dropout",
    "dropout_rate",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
)
# The head's dropout in BERT-like models and in DeBERTa; null means hidden_dropout_prob.
HEAD_DROPOUT = "classifier_dropout"
DEBERTA_HEAD_DROPOUT = "cls_dropout"


def load_config(checkpoint: Checkpoint) -> "PreTrainedConfig":
    """Read a base model's configuration.

    Raises:
        ModelError: it is damaged, or transformers does not have its architecture.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        raise ModelError(f"{checkpoint.name}: {CONFIG_FILE}: {first_line(error)}") from None


def configure(
    checkpoint: Checkpoint,
    config: ModelConfig,
    *,
    labels: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase | None",
    task: Task,
) -> "PreTrainedConfig":
    """Adapt a base model's configuration to the task, the labels and the recipe.

    Args:
        tokenizer: provides the pad token; None keeps that of the configuration.

    Raises:
        ModelError: the model does not fit the task, or lacks what the recipe sets.
    """
    model_config = load_config(checkpoint)
    if task.generation is not None:
        _check_generation_architecture(checkpoint, model_config, task=task)
    if labels:
        model_config.id2label = dict(enumerate(labels))
        model_config.label2id = {label: number for number, label in enumerate(labels)}
    if task.problem_type is not None:  # by which pipelines choose softmax, sigmoid or neither
        model_config.problem_type = task.problem_type
    # An added pad token has no embedding yet, and some embedding layers reject an ID out of range.
    if tokenizer is not None and tokenizer.pad_token_id < model_config.get_text_config().vocab_size:
        model_config.pad_token_id = tokenizer.pad_token_id
    if config.dropout is not None:
        _set_trunk_dropout(model_config, config.dropout, name=checkpoint.name)
    return model_config


def check_generation_length(
    checkpoint: Checkpoint, config: GenerationConfig, *, task: Task
) -> None:
    """Check that the generated tokens fit into the base model's positions.

    Raises:
        ModelError: `generation.max_new_tokens` leaves no position for a prompt.
    """
    positions = getattr(load_config(checkpoint).get_text_config(), "max_position_embeddings", None)
    if task.generation and positions and config.max_new_tokens >= positions:
        raise ModelError(
            f"generation.max_new_tokens: found {config.max_new_tokens}, but {checkpoint.name} has "
            f"{positions} positions for the prompt and the generated tokens together; use a "
            "smaller number"
        )


def _set_trunk_dropout(model_config: "PreTrainedConfig", dropout: float, *, name: str) -> None:
    """Set the dropout of the trunk and keep that of the head."""
    present = [field for field in TRUNK_DROPOUTS if hasattr(model_config, field)]
    if dropout and not present:
        raise ModelError(
            f"model.dropout: found {dropout:g}, but {name} has no dropout; set model.dropout=null"
        )
    is_deberta = model_config.model_type.startswith("deberta")
    head = DEBERTA_HEAD_DROPOUT if is_deberta else HEAD_DROPOUT
    if getattr(model_config, head, None) is None and hasattr(model_config, TRUNK_DROPOUTS[0]):
        setattr(model_config, head, model_config.hidden_dropout_prob)
    for field in present:
        setattr(model_config, field, dropout)


def _check_generation_architecture(
    checkpoint: Checkpoint, config: "PreTrainedConfig", *, task: Task
) -> None:
    """Check that the base model is a decoder, or an encoder-decoder, as the task needs it."""
    assert task.generation is not None
    needs_both = task.generation.is_encoder_decoder
    has_both = bool(config.is_encoder_decoder)
    is_encoder = not has_both and _is_encoder(config)
    if has_both == needs_both and not is_encoder:
        if has_both and getattr(config, "decoder_start_token_id", None) is None:
            raise ModelError(
                f"{checkpoint.name}: {CONFIG_FILE} has no decoder_start_token_id, with which the "
                "decoder starts; add it"
            )
        return
    if is_encoder:
        found = "an encoder, which generates no text"
    else:
        found = "an encoder-decoder model" if has_both else "a decoder-only model"
    expected = "a decoder-only model, such as gpt2"
    if needs_both:
        expected = "an encoder-decoder model, such as google/flan-t5-small"
    other_task = ""
    if has_both or (needs_both and not _is_encoder(config)):
        other_task = f"; or set task={'seq2seq_lm' if has_both else 'causal_lm'}"
    raise ModelError(
        f"{checkpoint.name}: found {found} ({config.model_type}); task: {task.name} needs "
        f"{expected}{other_task}"
    )


def _is_encoder(config: "PreTrainedConfig") -> bool:
    """Whether attention is bidirectional, so that the model cannot predict the next token."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    is_decoder = getattr(config, "is_decoder", False)
    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not is_decoder
