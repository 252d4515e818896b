"""Loads the base model with its weights, or builds it without them."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

from lora_tune.config.model import ModelConfig
from lora_tune.errors import ModelError, first_line
from lora_tune.models.checkpoint import CONFIG_FILE, Checkpoint
from lora_tune.models.configuration import configure
from lora_tune.models.layers import head_modules, unquantized_modules
from lora_tune.models.pooling import pool_mean
from lora_tune.models.quantization import (
    check_quantized,
    fix_weight_precision,
    quantizable_layers,
    quantization_config,
)
from lora_tune.system.environment import quiet_loading
from lora_tune.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LoadedModel(NamedTuple):
    """A loaded base model."""

    model: "PreTrainedModel"
    head: list[str]  # modules trained in full: the head, and a pooler that the checkpoint lacks
    has_untrained_head: bool  # whether the checkpoint lacks the head, so that it is random


def load_model(
    checkpoint: Checkpoint,
    config: ModelConfig,
    *,
    task: Task,
    labels: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase",
) -> LoadedModel:
    """Load the base model; a head that the checkpoint lacks is random, so set the seed before.

    Raises:
        ModelError: the weights are damaged or do not fit the configuration.
    """
    import torch
    import transformers
    from safetensors import SafetensorError

    name = checkpoint.name
    auto_class = getattr(transformers, task.auto_class)
    model_config = configure(checkpoint, config, labels=labels, tokenizer=tokenizer, task=task)
    with torch.device("meta"):
        meta_model = auto_class.from_config(model_config)
    head = head_modules(meta_model) if task.has_head else []
    quantization = quantization_config(config, skipped=unquantized_modules(meta_model))
    model_type = model_config.model_type
    layers = quantizable_layers(model_type) if config.quantization else nullcontext()
    try:
        with quiet_loading(), layers:  # the caller reports an untrained head
            model, info = auto_class.from_pretrained(
                checkpoint.folder,
                config=model_config,
                dtype=getattr(torch, config.dtype),
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # a head for other labels
                quantization_config=quantization,
            )
    except (ValueError, OSError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{name}: its weights do not load: {first_line(error)}") from None
    if config.quantization:
        check_quantized(model, name)
    missing = sorted(info["missing_keys"])
    mismatched = [key for key, *_ in info["mismatched_keys"]]
    wrong = [key for key in mismatched if key.split(".")[0] not in head]
    if wrong:
        raise ModelError(
            f"{name}: the shape of {wrong[0]} in its weights differs from {CONFIG_FILE}"
        )
    untrained = {key.split(".")[0] for key in missing + mismatched}
    # A pooler that the checkpoint lacks is as untrained as the head, and is trained with it.
    for key in missing:
        module = key.rpartition(".")[0]
        if key.split(".")[0] in head or module in head:
            continue
        if ".pooler." not in key:
            raise ModelError(f"{name}: its weights lack {key}, which {CONFIG_FILE} requires")
        head.append(module)
    _add_embeddings(model, len(tokenizer))
    model.config.pad_token_id = tokenizer.pad_token_id
    fix_weight_precision(model, config, head=head)
    if task.pooling == "mean":
        pool_mean(model)
    # A checkpoint may contain a part of the head, such as the dense layer of a masked-language
    # model's head: one missing tensor makes the head untrained.
    return LoadedModel(model, head, not untrained.isdisjoint(head))


def build_meta_model(
    checkpoint: Checkpoint,
    config: ModelConfig,
    *,
    task: Task,
    labels: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase | None" = None,
) -> tuple["PreTrainedModel", list[str]]:
    """Build the model from its configuration on the meta device, without weights.

    Args:
        tokenizer: a tokenizer with added tokens; None if there are none.

    Returns:
        The model, and the names of the modules on top of its trunk.

    Raises:
        ModelError: the configuration does not fit the task.
    """
    import torch
    import transformers

    model_config = configure(checkpoint, config, labels=labels, tokenizer=tokenizer, task=task)
    if tokenizer is not None:
        model_config.vocab_size = max(model_config.vocab_size, len(tokenizer))
    try:
        with torch.device("meta"):
            model = getattr(transformers, task.auto_class).from_config(model_config)
    except ValueError as error:
        raise ModelError(f"{checkpoint.name}: {first_line(error)}") from None
    output_layer = model.get_output_embeddings()
    if output_layer is not None and getattr(model_config, "scale_decoder_outputs", None) is False:
        # T5 1.1: its output layer is not tied; transformers unties it when it loads the weights.
        output_layer.weight = torch.nn.Parameter(torch.empty_like(output_layer.weight))
    return model, head_modules(model)


def _add_embeddings(model: "PreTrainedModel", tokens: int) -> None:
    """Give added tokens embeddings: the mean of all others, so that they are reproducible.

    Args:
        tokens: the size of the tokenizer's vocabulary.
    """
    import torch

    known = model.get_input_embeddings().weight.shape[0]
    if tokens <= known:
        return
    model.resize_token_embeddings(tokens, mean_resizing=False)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            if layer is not None:
                layer.weight[known:] = layer.weight[:known].mean(dim=0)
