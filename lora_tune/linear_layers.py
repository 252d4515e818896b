"""A base's linear layers, as those who quantise them know them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lora_tune.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@contextmanager
def plain_layers(model_type: str) -> Iterator[None]:
    """Let models be built of torch's own linear layers.

    transformers quantises no other, and says nothing. Falcon's are of a class of their own, whose
    forward multiplies and adds as torch's does.

    Args:
        model_type: of the base's configuration.
    """
    if model_type != "falcon":
        yield
        return
    from torch.nn import Linear
    from transformers.models.falcon import modeling_falcon

    own = modeling_falcon.FalconLinear
    modeling_falcon.FalconLinear = Linear
    try:
        yield
    finally:
        modeling_falcon.FalconLinear = own


def check_quantized(model: "PreTrainedModel", name: str) -> None:
    """Check that a base which was to be quantised is.

    Args:
        name: of the base.

    Raises:
        ModelError: none of its layers are.
    """
    if not any(type(module).__module__.startswith("bitsandbytes") for module in model.modules()):
        raise ModelError(
            f"model.quantization: {name} has no layers that can be quantised; set "
            "model.quantization=null"
        )
