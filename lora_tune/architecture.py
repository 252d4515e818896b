"""What a base model's configuration says, and what a task and a recipe change in it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lora_tune.base import CONFIG_FILE, Base
from lora_tune.errors import ModelError, first_line
from lora_tune.recipe import GenerationConfig, ModelConfig
from lora_tune.tasks import Task
from lora_tune.tasks.writing_task import WritingTask

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

# Names under which transformers' configs keep the dropout probabilities of the trunk.
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
HEAD_DROPOUT = "classifier_dropout"  # where null, BERT's kin use hidden_dropout_prob...
DEBERTA_HEAD_DROPOUT = "cls_dropout"  # ...and so do DeBERTa's


def load_config(base: Base) -> "PreTrainedConfig":
    """Read a base model's configuration.

    Raises:
        ModelError: it is damaged, or of an architecture that transformers does not have.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(base.folder, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        raise ModelError(f"{base.name}: {CONFIG_FILE}: {first_line(error)}") from None


def configure(
    base: Base,
    config: ModelConfig,
    labels: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase | None",
    task: Task,
) -> "PreTrainedConfig":
    """Make the configuration of a task's model, by the recipe.

    Args:
        tokenizer: tells the pad token; None where there is none.

    Raises:
        ModelError: the base is of no use for the task, or has nothing that the recipe sets.
    """
    model_config = load_config(base)
    if isinstance(task, WritingTask):
        _check_writes(base, model_config, task)
    if labels:
        model_config.id2label = dict(enumerate(labels))
        model_config.label2id = {label: number for number, label in enumerate(labels)}
    if task.problem_type is not None:  # else a merged model's pipeline takes softmaxes
        model_config.problem_type = task.problem_type
    # A new token has no row yet, and some embeddings refuse to be made with such a number.
    if tokenizer is not None and tokenizer.pad_token_id < model_config.get_text_config().vocab_size:
        model_config.pad_token_id = tokenizer.pad_token_id
    if config.dropout is not None:
        present = [name for name in TRUNK_DROPOUTS if hasattr(model_config, name)]
        if config.dropout and not present:
            raise ModelError(f"model.dropout: {base.name} has no dropout to set")
        is_deberta = model_config.model_type.startswith("deberta")
        head = DEBERTA_HEAD_DROPOUT if is_deberta else HEAD_DROPOUT
        if getattr(model_config, head, None) is None and hasattr(model_config, TRUNK_DROPOUTS[0]):
            setattr(model_config, head, model_config.hidden_dropout_prob)
        for name in present:
            setattr(model_config, name, config.dropout)
    return model_config


def check_room(base: Base, config: GenerationConfig, task: Task) -> None:
    """Refuse to write more than a base has places for.

    Raises:
        ModelError: so it is.
    """
    places = getattr(load_config(base).get_text_config(), "max_position_embeddings", None)
    if isinstance(task, WritingTask) and places and config.max_new_tokens >= places:
        raise ModelError(
            f"generation.max_new_tokens: {config.max_new_tokens} tokens, but "
            f"{base.name} has places for {places}, the prompt's among them"
        )


def _check_writes(base: Base, config: "PreTrainedConfig", task: WritingTask) -> None:
    """Refuse a base that does not write as a task needs it."""
    both = bool(config.is_encoder_decoder)
    if both == task.is_encoder_decoder and not (not both and _is_encoder(config)):
        if both and getattr(config, "decoder_start_token_id", None) is None:
            raise ModelError(
                f"{base.name}: {CONFIG_FILE} has no decoder_start_token_id, so its decoder has "
                "nothing to begin with"
            )
        return
    kind = "an encoder with a decoder" if both else "a decoder"
    if not both and _is_encoder(config):
        kind = "an encoder, which writes no text"
    wanted = "a decoder alone, such as gpt2"
    if task.is_encoder_decoder:
        wanted = "an encoder with a decoder, such as google/flan-t5-small"
    other = ""
    if both or (task.is_encoder_decoder and not _is_encoder(config)):
        other = f"; or set task={'seq2seq_lm' if both else 'causal_lm'}"
    raise ModelError(
        f"{base.name}: is {kind} ({config.model_type}); task: {task.name} wants {wanted}{other}"
    )


def _is_encoder(config: "PreTrainedConfig") -> bool:
    """Whether a model reads on both sides of a word, so that it cannot foretell the next."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    is_decoder = getattr(config, "is_decoder", False)
    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not is_decoder
