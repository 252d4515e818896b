"""The base model and its tokenizer, loaded, or built without weights."""

import importlib.util
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from lora_tune.base import CONFIG_FILE, NEEDS_SENTENCEPIECE, Base, lacks_sentencepiece
from lora_tune.environment import quiet_loading
from lora_tune.errors import ModelError, first_line
from lora_tune.linear_layers import check_quantized, plain_layers
from lora_tune.recipe import DataConfig, ModelConfig
from lora_tune.tasks import Task

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

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


def load_tokenizer(base: Base, config: ModelConfig, data: DataConfig) -> "PreTrainedTokenizerBase":
    """Load a base model's tokenizer, with a pad token and the recipe's truncation.

    Raises:
        ModelError: there is none, or it has neither a pad token nor an end-of-text token.
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
    model_config = _configure(base, config, labels, tokenizer, task)
    with torch.device("meta"):
        on_top = head_modules(auto_class.from_config(model_config))
    head = list(on_top) if task.has_head else []
    try:
        plain = plain_layers(model_config.model_type) if config.quantization else nullcontext()
        with quiet_loading(), plain:  # what is fresh is told by the caller
            model, info = auto_class.from_pretrained(
                base.folder,
                config=model_config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # of a head for other labels
                quantization_config=_quantization(config, on_top),
            )
    except (ValueError, OSError, RuntimeError, _safetensors_error()) as error:
        raise ModelError(f"{base.name}: its weights do not load: {first_line(error)}") from None
    for module in model.modules():
        # Else bitsandbytes repacks and rounds 4-bit weights once more, at the first evaluation on
        # some processors, and training and other machines see other weights.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
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


def dequantize_into(model: "PreTrainedModel", quantized: "PreTrainedModel") -> None:
    """Give a model the weights that a quantised copy of it computes with, in full precision."""
    import torch
    from transformers.pytorch_utils import Conv1D

    with torch.no_grad():
        for path, module in quantized.named_modules():
            if type(module).__name__ not in ("Linear4bit", "Linear8bitLt"):
                continue
            weight = dequantize_layer(module)
            place = model.get_submodule(path)
            if isinstance(place, Conv1D):  # it keeps its weights the other way round
                weight = weight.T
            place.weight.copy_(weight)


def dequantize_layer(layer: "Module") -> "Tensor":
    """The weights that a quantised layer computes with, (out, in)."""
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    return dequantize_bnb_weight(layer.weight, getattr(layer, "state", None))


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

    model_config = _configure(base, config, labels, tokenizer, task)
    if tokenizer is not None:
        model_config.vocab_size = max(model_config.vocab_size, len(tokenizer))
    try:
        with torch.device("meta"):
            model = getattr(transformers, task.auto_class).from_config(model_config)
    except ValueError as error:
        raise ModelError(f"{base.name}: {first_line(error)}") from None
    return model, head_modules(model)


def head_modules(model: "PreTrainedModel") -> list[str]:
    """Name the modules with parameters beside the trunk: those the task puts on top of it."""
    return [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and any(True for _ in module.parameters())
    ]


def thaw_layers(model: "PreTrainedModel", last: int | None) -> None:
    """Let only the last layers of the trunk and all above them train, or with None every weight.

    Raises:
        ModelError: it has fewer layers.
    """
    from torch.nn import ModuleList

    model.requires_grad_(True)
    if last is None:
        return
    stacks = [module for module in model.base_model.modules() if isinstance(module, ModuleList)]
    layers = max(stacks, key=len, default=ModuleList())
    if last > len(layers):
        raise ModelError(f"ladder.last_layers: {last}, but the base has {len(layers)} layers")
    first = next(layers[len(layers) - last].parameters())
    for parameter in model.parameters():  # in the order that they are passed through
        if parameter is first:
            break
        parameter.requires_grad_(False)


def _configure(
    base: Base,
    config: ModelConfig,
    labels: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase | None",
    task: Task,
) -> "PreTrainedConfig":
    model_config = load_config(base)
    if task.generates and _is_encoder(model_config):
        raise ModelError(
            f"{base.name}: is an encoder ({model_config.model_type}), which writes no text; "
            f"task: {task.name} wants a decoder, such as gpt2"
        )
    if labels:
        model_config.id2label = dict(enumerate(labels))
        model_config.label2id = {label: number for number, label in enumerate(labels)}
    if task.problem_type is not None:  # else a merged model's pipeline takes softmaxes
        model_config.problem_type = task.problem_type
    if tokenizer is not None:
        model_config.pad_token_id = tokenizer.pad_token_id
    if config.dropout is not None:
        present = [name for name in TRUNK_DROPOUTS if hasattr(model_config, name)]
        if not present:
            raise ModelError(f"model.dropout: {base.name} has no dropout to set")
        is_deberta = model_config.model_type.startswith("deberta")
        head = DEBERTA_HEAD_DROPOUT if is_deberta else HEAD_DROPOUT
        if getattr(model_config, head, None) is None and hasattr(model_config, TRUNK_DROPOUTS[0]):
            setattr(model_config, head, model_config.hidden_dropout_prob)
        for name in present:
            setattr(model_config, name, config.dropout)
    return model_config


def _is_encoder(config: "PreTrainedConfig") -> bool:
    """Whether a model reads on both sides of a word, so that it cannot foretell the next."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    is_decoder = getattr(config, "is_decoder", False)
    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not is_decoder


def _quantization(config: ModelConfig, head: list[str]) -> Any:
    if config.quantization is None:
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            f"model.quantization: {config.quantization} needs bitsandbytes: "
            "pip install 'lora-tune[quantization]'"
        )
    from transformers import BitsAndBytesConfig

    if config.quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=head)
    # NF4 with double quantisation. Source: Dettmers et al. 2023, arXiv 2305.14314, section 3.
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        llm_int8_skip_modules=head,
    )


def _safetensors_error() -> type[Exception]:
    from safetensors import SafetensorError

    return SafetensorError
