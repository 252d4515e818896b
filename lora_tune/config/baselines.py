"""The recipe's `baselines:` section: the baselines that train weights of the base model."""

from dataclasses import dataclass

from lora_tune.config.validation import Problems, check_minimum, check_positive


@dataclass(frozen=True)
class BaselinesConfig:
    """The baselines that train weights of the base model; the others always run.

    They train with the settings of `training`, except for the learning rate.
    """

    full_fine_tuning: bool = False
    """Whether to train all weights of the base model as a baseline."""

    last_layers: int = 0
    """The number of last layers of the base model to train, with the head, as a baseline. With 0
    there is no such baseline."""

    learning_rate: float = 5e-5
    """The peak learning rate of these baselines."""

    def validate(self) -> Problems:
        """Yield what the types of the fields cannot rule out."""
        yield from check_minimum("last_layers", self.last_layers, 0)
        yield from check_positive("learning_rate", self.learning_rate)
