"""The base model and its tokenizer, loaded, or built without weights."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from lora_tune.architecture import configure, load_config
from lora_tune.base import CONFIG_FILE, NEEDS_SENTENCEPIECE, Base, lacks_sentencepiece
from lora_tune.chats import choose_template
from lora_tune.environment import quiet_loading
from lora_tune.errors import ModelError, first_line
from lora_tune.linear_layers import check_quantized, plain_layers
from lora_tune.precision import fix_precision, quantization_config
from lora_tune.recipe import DataConfig, ModelConfig
from lora_tune.tasks import Task

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_tokenizer(base: Base, config: ModelConfig, data: DataConfig) -> "PreTrainedTokenizerBase":
    """Load a base model's tokenizer, with a pad token and the recipe's truncation and template.

    Raises:
        ModelError: there is none, or it lacks a pad and an end-of-text token, or a chat template.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(base.folder, trust_remote_code=False)
    except (ValueError, OSError, KeyError, ImportError) as error:
        fault = NEEDS_SENTENCEPIECE if lacks_sentencepiece(base) else first_line(error)
        raise ModelError(f"{base.name}: no usable tokenizer: {fault}") from None
    if not tokenizer.is_fast:
        raise ModelError(f"{base.name}: its tokenizer has no fast version (tokenizer.json)")
    positions = getattr(load_config(base).get_text_config(), "max_position_embeddings", None)
    limit = min(tokenizer.model_max_length, positions or tokenizer.model_max_length)
    if data.max_length > limit:
        raise ModelError(
            f"data.max_length: {data.max_length} tokens, but {base.name} takes at most {limit}"
        )
    if config.pad_token:
        tokenizer.add_special_tokens({"pad_token": config.pad_token})
    elif tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError(
                f"{base.name}: its tokenizer has no pad token and no end-of-text token; name a "
                "new one with model.pad_token='<pad>'"
            )
        tokenizer.pad_token = tokenizer.eos_token
    if data.is_chat:
        choose_template(tokenizer, data, base=base.name)
    tokenizer.truncation_side = data.truncation_side
    tokenizer.model_max_length = data.max_length
    return tokenizer


def load_model(
    base: Base,
    config: ModelConfig,
    *,
    task: Task,
    labels: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase",
) -> tuple["PreTrainedModel", list[str], bool]:
    """Load the base model's weights; seed before, for a head that they do not hold.

    Returns:
        The model, the names of the modules to train whole (its head, and a pooler that the weights
        lack), and whether the head is fresh.

    Raises:
        ModelError: the weights are damaged or do not fit the configuration.
    """
    import torch
    import transformers

    auto_class = getattr(transformers, task.auto_class)
    model_config = configure(base, config, labels, tokenizer, task)
    with torch.device("meta"):
        built = auto_class.from_config(model_config)
    head = head_modules(built) if task.has_head else []
    quantization = quantization_config(config, skipped=unquantized_modules(built))
    try:
        plain = plain_layers(model_config.model_type) if config.quantization else nullcontext()
        with quiet_loading(), plain:  # what is fresh is told by the caller
            model, info = auto_class.from_pretrained(
                base.folder,
                config=model_config,
                dtype=getattr(torch, config.dtype),
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # of a head for other labels
                quantization_config=quantization,
            )
    except (ValueError, OSError, RuntimeError, _safetensors_error()) as error:
        raise ModelError(f"{base.name}: its weights do not load: {first_line(error)}") from None
    if config.quantization:
        check_quantized(model, base.name)
    missing = sorted(info["missing_keys"])
    wrong = [key for key, *_ in info["mismatched_keys"] if key.split(".")[0] not in head]
    if wrong:
        raise ModelError(f"{base.name}: {wrong[0]} has another shape than {CONFIG_FILE} says")
    fresh = {key.split(".")[0] for key in missing + [key for key, *_ in info["mismatched_keys"]]}
    # A pooler that the checkpoint lacks is as fresh as the head, so it is trained with it.
    for key in missing:
        module = key.rpartition(".")[0]
        if key.split(".")[0] in head or module in head:
            continue
        if ".pooler." not in key:
            raise ModelError(f"{base.name}: its weights lack {key}, which {CONFIG_FILE} asks for")
        head.append(module)
    _add_tokens(model, len(tokenizer))
    model.config.pad_token_id = tokenizer.pad_token_id
    fix_precision(model, config, head)
    # A part of it may be at hand, as is what a masked language model puts before its decoder.
    return model, head, not fresh.isdisjoint(head)


def _add_tokens(model: "PreTrainedModel", tokens: int) -> None:
    """Give new tokens rows of their own, each the mean of all others', so the same every time."""
    import torch

    known = model.get_input_embeddings().weight.shape[0]
    if tokens <= known:
        return
    model.resize_token_embeddings(tokens, mean_resizing=False)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            if layer is not None:
                layer.weight[known:] = layer.weight[:known].mean(dim=0)


def build_meta_model(
    base: Base,
    config: ModelConfig,
    *,
    task: Task,
    labels: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase | None" = None,
) -> tuple["PreTrainedModel", list[str]]:
    """Build the model on the meta device, from its configuration alone, without weights.

    Args:
        tokenizer: tells of added tokens; None where there are none.

    Returns:
        The model, and the names of the modules on top of its trunk.
    """
    import torch
    import transformers

    model_config = configure(base, config, labels, tokenizer, task)
    if tokenizer is not None:
        model_config.vocab_size = max(model_config.vocab_size, len(tokenizer))
    try:
        with torch.device("meta"):
            model = getattr(transformers, task.auto_class).from_config(model_config)
    except ValueError as error:
        raise ModelError(f"{base.name}: {first_line(error)}") from None
    layer = model.get_output_embeddings()
    if layer is not None and getattr(model_config, "scale_decoder_outputs", None) is False:
        # T5 of version 1.1 has a last layer of its own, as transformers finds when weights load.
        layer.weight = torch.nn.Parameter(torch.empty_like(layer.weight))
    return model, head_modules(model)


def head_modules(model: "PreTrainedModel") -> list[str]:
    """Name the modules with parameters beside the trunk: those the task puts on top of it."""
    if not hasattr(model, model.base_model_prefix):  # T5's encoder and decoder lie beside its head
        head = model.get_output_embeddings()
        return [name for name, module in model.named_children() if module is head]
    return [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and any(True for _ in module.parameters())
    ]


def unquantized_modules(model: "PreTrainedModel") -> list[str]:
    """Name the modules that are never quantised.

    They are the head, or a language model's output layer, and a pooler, which is trained whole
    where a checkpoint lacks it.
    """
    paths = {module: path for path, module in model.named_modules()}
    output = model.get_output_embeddings()
    top = head_modules(model) if output is None else [paths[output]]
    return [*top, *(path for path in paths.values() if path.endswith(".pooler"))]


def thaw_layers(model: "PreTrainedModel", last: int | None) -> None:
    """Let only the last layers of the trunk and all above them train, or with None every weight.

    Raises:
        ModelError: it has fewer layers.
    """
    model.requires_grad_(True)
    if last is None:
        return
    trunk = model.get_decoder() if model.config.is_encoder_decoder else model.base_model
    layers = find_layers(trunk)
    if last > len(layers):
        raise ModelError(f"ladder.last_layers: {last}, but the base has {len(layers)} layers")
    first = next(layers[len(layers) - last].parameters())
    for parameter in model.parameters():  # in the order that they are passed through
        if parameter is first:
            break
        parameter.requires_grad_(False)


def find_layers(trunk: "Module") -> "Sequence[Module]":
    """Find the stack of layers in a model, the lowest first; empty where there is none."""
    from torch.nn import ModuleList

    stacks = [module for module in trunk.modules() if isinstance(module, ModuleList)]
    return max(stacks, key=len, default=ModuleList())  # outermost first


def _safetensors_error() -> type[Exception]:
    from safetensors import SafetensorError

    return SafetensorError
