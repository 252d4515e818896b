"""What every model of a run is built from, trained on and evaluated on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_tune.config.recipe import Recipe
from lora_tune.data.batching import make_collator
from lora_tune.data.splits import Data
from lora_tune.metrics.metric import Metric
from lora_tune.models.checkpoint import Checkpoint
from lora_tune.models.loading import LoadedModel, load_model
from lora_tune.system.environment import find_device, seed_everything
from lora_tune.tasks import Task, primary_metric_of

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class RunContext:
    """What every model of a run is built from, trained on and evaluated on."""

    recipe: Recipe
    task: Task
    checkpoint: Checkpoint
    targets: list[str]  # module names for PEFT
    tokenizer: "PreTrainedTokenizerBase"
    data: Data
    example_inputs: list[Any]  # the recipe's examples, preprocessed
    checkpoints: Path  # the folder of Trainer's checkpoints
    show: Callable[[Any], None]  # takes each table or line when it is known

    @property
    def primary_metric(self) -> Metric:
        """The metric that decides the comparison."""
        return primary_metric_of(self.task, self.recipe.generation)

    def load_base_model(self, seed: int) -> LoadedModel:
        """Seed everything and load the base model onto its device; a missing head is random."""
        seed_everything(seed)  # covers head, adapter and the order of the rows
        loaded = self._load(in_full=False)
        if self.recipe.model.quantization is None:  # bitsandbytes places its own
            loaded.model.to(find_device())
        return loaded

    def load_full_precision_model(self) -> LoadedModel:
        """Load the base model again without quantization, in float32 and on the CPU."""
        return self._load(in_full=True)

    def collate(self, model: "Module") -> Callable[..., Any]:
        """Make the collator that pads each batch of a model to its own longest row."""
        return make_collator(self.tokenizer, self.task, model)

    def _load(self, *, in_full: bool) -> LoadedModel:
        config = self.recipe.model
        return load_model(
            self.checkpoint,
            config.in_full() if in_full else config,
            task=self.task,
            labels=self.data.labels,
            tokenizer=self.tokenizer,
        )
