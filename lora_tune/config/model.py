"""The recipe's `model:` section: the base model and how its weights are loaded."""

from dataclasses import dataclass, replace
from typing import Literal

from lora_tune.config.validation import Problems, check_dropout


@dataclass(frozen=True)
class ModelConfig:
    """The frozen base model.

    The adapter and the head are always trained in float32. The base model is loaded in the same
    precision for training, for evaluation and with the published adapter.
    """

    name: str = "???"
    """A folder, a model ID on the Hub, or the model ID of an installed model package. Required."""

    revision: str | None = None
    """The branch, tag or commit of a Hub model. If null, its main branch."""

    quantization: Literal["4bit", "8bit"] | None = None
    """The quantization of the linear layers by bitsandbytes: `4bit` (NF4) or `8bit` (LLM.int8). If
    null, no layer is quantized."""

    double_quantization: bool = True
    """With `4bit`, whether the scales of the quantized blocks are quantized too, to 8 bits."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """The type of all weights that are not quantized, and the compute type of 4-bit layers."""

    pad_token: str | None = None
    """The token to add for padding if the tokenizer has none. If null, the end-of-text token
    pads."""

    pooling: Literal["auto", "model", "mean"] = "auto"
    """How the states of a text's tokens become one prediction, for tasks with one for each text:
    `model` as the head of its architecture does, such as BERT's by the first token; `mean` by their
    mean, as for sentence encoders; `auto` as the base model was trained with sentence-transformers,
    else as `model`. With `mean`, transformers and PEFT load the adapter as one for token
    classification, whose logits are to be averaged."""

    dropout: float | None = 0.0
    """The dropout probability inside the base model during training. If null, as in its own
    configuration. The head keeps its own dropout."""

    @property
    def precision(self) -> str:
        """What the weights of the base model are held in, such as `4-bit (nf4) and bfloat16`."""
        plain = "" if self.double_quantization else ", without double quantization"
        bits = {"4bit": f"4-bit (nf4{plain}) and ", "8bit": "8-bit (int8) and ", None: ""}
        return bits[self.quantization] + self.dtype

    @property
    def is_rounded(self) -> bool:
        """Whether loading rounds the weights: they are quantized, or not in float32."""
        return self.quantization is not None or self.dtype != "float32"

    def in_full(self) -> "ModelConfig":
        """The same base model in full precision (float32, not quantized)."""
        return replace(self, quantization=None, double_quantization=True, dtype="float32")

    def validate(self) -> Problems:
        """Yield what the types of the fields cannot rule out."""
        if not self.double_quantization and self.quantization != "4bit":
            found = self.quantization or "null"
            yield "double_quantization", f"false needs quantization=4bit, found {found}"
        yield from check_dropout("dropout", self.dropout)
