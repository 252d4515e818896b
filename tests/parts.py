"""The parts of a run: a base model loaded, an adapter attached, trained a little and saved."""

import torch

from lora_tune.artifacts.manifest import TrainingRecord, record_tensors, write_manifest
from lora_tune.config.data import DataConfig
from lora_tune.config.lora import LoraConfig
from lora_tune.config.model import ModelConfig
from lora_tune.config.recipe import Recipe
from lora_tune.config.training import TRAINING_DEFAULTS
from lora_tune.data.batching import make_collator
from lora_tune.lora.adapter import adapter_tensors, attach_adapter, write_peft_directory
from lora_tune.lora.initialization import TrainingRows, initialize_adapter, restore_base_weights
from lora_tune.lora.target_modules import resolve_target_modules
from lora_tune.models.checkpoint import resolve_checkpoint
from lora_tune.models.loading import load_model
from lora_tune.models.tokenizer import load_tokenizer
from lora_tune.run_context import RunContext
from lora_tune.tasks import make_task
from tests.tiny import reviews

TASK = make_task("sequence_classification")
# The defaults of the recipe's `training:` section, and a length.
RESOLVED_TRAINING = TRAINING_DEFAULTS | {"num_train_epochs": 3, "load_best_model_at_end": True}
LABELS = ["bad", "mixed", "fine"]


class Parts:
    """A loaded base model, and an adapter on it once it is attached."""

    def __init__(self, path, lora=None, seed=0, task=TASK, labels=None, **model):
        self.task, self.labels = task, labels or (LABELS if task.has_classes else [])
        self.config = ModelConfig(name=str(path), **model)
        self.lora = lora or LoraConfig()
        self.checkpoint = resolve_checkpoint(self.config)
        self.targets = resolve_target_modules(
            self.checkpoint, self.config, lora=self.lora, task=task
        )
        self.tokenizer = load_tokenizer(
            self.checkpoint, self.config, data=DataConfig(max_length=64)
        )
        torch.manual_seed(seed)
        self.model, self.head, self.has_untrained_head = self._load(self.config)
        self.model.eval()
        self.collate = make_collator(self.tokenizer, task, self.model)

    def attach(self):
        """Attach the adapter and initialize it as its configuration says."""
        self.adapted = attach_adapter(
            self.model, self.lora, targets=self.targets, head=self.head, task=self.task
        )
        rows = TrainingRows(self.rows(), self.collate, seed=0)
        self.initial = initialize_adapter(
            self.adapted, self.lora, rows=rows, load_full=self.load_full_precision
        )
        return self.adapted.eval()

    def context(self, data, checkpoints, **settings):
        """Make a context to train with.

        Args:
            data: with train, validation and class_weights.
            checkpoints: a folder.
            settings: changes to the defaults of the recipe's `training:` section.
        """
        training = RESOLVED_TRAINING | settings
        recipe = Recipe(
            task=self.task.name,
            model=self.config,
            lora=self.lora,
            training=training,
            name="parts",
        )
        return RunContext(
            recipe=recipe,
            task=self.task,
            checkpoint=self.checkpoint,
            targets=self.targets,
            tokenizer=self.tokenizer,
            data=data,
            example_inputs=[],
            checkpoints=checkpoints,
            show=lambda shown: None,
        )

    def rows(self):
        """Tokenized rows without labels."""
        from datasets import Dataset

        return Dataset.from_dict(dict(self.tokenizer(reviews()[0][:64], truncation=True)))

    def load_full_precision(self):
        """Load the base model again in full precision."""
        return self._load(self.config.in_full()).model

    def restore(self):
        """Restore the base model's own weights, as a run does after training."""
        restore_base_weights(self.adapted, self.lora, initial=self.initial)
        return self.adapted.eval()

    def logits(self, model):
        """Compute a model's logits for eight texts."""
        with torch.no_grad():
            return model(**self.batch()).logits

    def batch(self, rows=8):
        """Tokenize and pad the first texts."""
        return self.tokenizer(
            reviews()[0][:rows], padding=True, truncation=True, return_tensors="pt"
        )

    def train_a_little(self, steps=3):
        """Take a few steps on one batch; returns the loss before each."""
        inputs = self.batch()
        labels = torch.arange(8) % 3 if self.labels else inputs["input_ids"]
        self.adapted.train()
        trained = [p for p in self.adapted.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=0.01)
        losses = []
        for _ in range(steps):
            loss = self.adapted(**inputs, labels=labels).loss
            loss.backward()
            losses.append(loss.item())
            optimizer.step()
            optimizer.zero_grad()
        self.adapted.eval()
        return losses

    def save(self, folder, recipe="data: {}\n"):
        """Save the adapter with its manifest; returns the bytes of its weights file."""
        written = write_peft_directory(
            self.adapted,
            folder,
            checkpoint=self.checkpoint,
            tokenizer=self.tokenizer,
            labels=self.labels,
            task=self.task,
        )
        (folder / "README.md").write_text("card")
        self.write_manifest(folder, recipe)
        return written

    def write_manifest(self, folder, recipe="data: {}\n"):
        """Write a manifest for the files of a folder."""
        write_manifest(
            folder,
            training=TrainingRecord(
                task=self.task.name,
                labels=self.labels,
                checkpoint=self.checkpoint,
                model_config=self.config,
                recipe_name="tiny",
                recipe=recipe,
                data_fingerprint="",
                threshold=self.task.chosen_threshold,
            ),
            tensors=record_tensors(adapter_tensors(self.adapted)),
        )

    def _load(self, config):
        return load_model(
            self.checkpoint,
            config,
            task=self.task,
            labels=self.labels,
            tokenizer=self.tokenizer,
        )
