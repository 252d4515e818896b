"""A base loaded, an adapter attached to it, trained a little and saved: the parts of a run."""

import torch

from lora_tune.adapter import adapter_tensors, attach_adapter, save_adapter
from lora_tune.base import find_base
from lora_tune.batching import make_collator
from lora_tune.manifest import seal_adapter
from lora_tune.model import load_model, load_tokenizer
from lora_tune.recipe import DataConfig, LoraConfig, ModelConfig
from lora_tune.starts import TrainingRows, settle_adapter, start_adapter
from lora_tune.targets import find_targets
from lora_tune.tasks import find_task
from tests.tiny import reviews

TASK = find_task("sequence_classification")
LABELS = ["bad", "mixed", "fine"]


class Parts:
    """A base loaded, an adapter attached."""

    def __init__(self, path, lora=None, seed=0, task=TASK, labels=None, **model):
        self.task, self.labels = task, labels or (LABELS if task.has_classes else [])
        self.config = ModelConfig(name=str(path), **model)
        self.lora = lora or LoraConfig()
        self.base = find_base(self.config)
        self.targets = find_targets(self.base, self.config, self.lora, task)
        self.tokenizer = load_tokenizer(self.base, self.config, DataConfig(max_length=64))
        torch.manual_seed(seed)
        self.model, self.head, self.fresh_head = load_model(
            self.base, self.config, task=task, labels=self.labels, tokenizer=self.tokenizer
        )
        self.model.eval()

    def attach(self):
        self.adapted = attach_adapter(
            self.model, self.lora, targets=self.targets, head=self.head, task=self.task
        )
        rows = TrainingRows(
            self.rows(), make_collator(self.tokenizer, self.task, self.model), seed=0
        )
        self.start = start_adapter(self.adapted, self.lora, rows=rows, load_full=self.load_full)
        return self.adapted.eval()

    def rows(self):
        from datasets import Dataset

        return Dataset.from_dict(dict(self.tokenizer(reviews()[0][:64], truncation=True)))

    def load_full(self):
        full = self.config.in_full()
        return load_model(
            self.base, full, task=self.task, labels=self.labels, tokenizer=self.tokenizer
        )[0]

    def settle(self):
        """Give the base its own weights back, as a run does after training."""
        settle_adapter(self.adapted, self.lora, self.start)
        return self.adapted.eval()

    def logits(self, model):
        inputs = self.tokenizer(
            reviews()[0][:8], padding=True, truncation=True, return_tensors="pt"
        )
        with torch.no_grad():
            return model(**inputs).logits

    def train_a_little(self, steps=3):
        """Take a few steps on one batch; returns the loss before each."""
        inputs = self.tokenizer(
            reviews()[0][:8], padding=True, truncation=True, return_tensors="pt"
        )
        labels = torch.arange(8) % 3 if self.labels else inputs["input_ids"]
        self.adapted.train()
        moving = [p for p in self.adapted.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(moving, lr=0.01)
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
        """Save and seal the adapter; returns the bytes of its weights."""
        written = save_adapter(
            self.adapted,
            folder,
            base=self.base,
            tokenizer=self.tokenizer,
            labels=self.labels,
            task=self.task,
        )
        self.reseal(folder, recipe)
        return written

    def reseal(self, folder, recipe="data: {}\n"):
        """Write a manifest for what is in the folder."""
        seal_adapter(
            folder,
            "card",
            task=self.task.name,
            labels=self.labels,
            base=self.base,
            loading=self.config,
            tensors=adapter_tensors(self.adapted),
            recipe_name="tiny",
            recipe=recipe,
            data_fingerprint="",
        )
