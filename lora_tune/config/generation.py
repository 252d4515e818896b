"""The recipe's `generation:` section: how a language model generates text, and its metric."""

from dataclasses import dataclass
from typing import Literal

from lora_tune.config.validation import Problems, check_minimum

TextMetric = Literal["rougeL", "rouge1", "rouge2", "bleu", "exact_match"]


@dataclass(frozen=True)
class GenerationConfig:
    """How a language model generates text, and whether the generated texts decide the comparison.

    The best epoch is selected by perplexity in every case, because generation is slow.
    """

    metric: TextMetric | None = None
    """The primary metric, computed on texts generated for the test rows. If null, nothing is
    generated for them and perplexity is the primary metric."""

    max_new_tokens: int = 64
    """The maximum number of tokens to generate for a row."""

    num_beams: int = 1
    """The number of beams of the beam search; 1 is greedy decoding."""

    def validate(self) -> Problems:
        """Yield what the types of the fields cannot rule out."""
        for key in ("max_new_tokens", "num_beams"):
            yield from check_minimum(key, getattr(self, key), 1)
