"""lora_tune trains to the weights of transformers.Trainer with PEFT, given the same batches."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from transformers import Trainer

from lora_tune.config.lora import LoraConfig
from lora_tune.training.arguments import make_arguments
from lora_tune.training.data_loader import make_loader
from lora_tune.training.trainer import AdapterTrainer
from tests.integration.task_rows import make_parts, tokenize_rows
from tests.tiny import make_base, reviews

SETTINGS = {
    "num_train_epochs": 3,
    "per_device_train_batch_size": 8,
    "eval_strategy": "no",
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "logging_steps": 1,
    "optim": "sgd",  # Adam would divide rounding errors where gradients vanish
    "learning_rate": 0.5,
    "max_grad_norm": 0,  # clipping would hide a wrong scale
}


class PlainTrainer(Trainer):
    """Trainer with the model's own loss, and the batches of lora_tune."""

    def get_train_dataloader(self):
        return make_loader(
            self.train_dataset,
            self.args,
            batch_size=self._train_batch_size,
            collate=self.data_collator,
        )


def trained(model):
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("base", ["bert-base-cased", "distilbert-base-uncased", "gpt2"])
def test_the_same_batches_train_the_same_weights(base, fast, tmp_path):
    lora = LoraConfig(rank=4, alpha=8, dropout=0.0)
    parts = make_parts(
        make_base(tmp_path / "base", base), "sequence_classification", lora, dropout=0.0
    )
    model = parts.attach()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # the head's own
    before = deepcopy(trained(model))
    texts = [text[: 20 + 8 * n] for n, text in enumerate(reviews()[0][:20])]
    encoded = tokenize_rows(parts, texts, truncation=True, max_length=64)
    rows = Dataset.from_dict(encoded | {"length": [len(ids) for ids in encoded["input_ids"]]})
    split = SimpleNamespace(encoded=rows)
    data = SimpleNamespace(train=split, validation=split, class_weights=None)
    context = parts.context(data, tmp_path, **SETTINGS, fast=fast)
    settings = context.recipe.training
    arguments = make_arguments(settings, task=parts.task, checkpoints=tmp_path / "checkpoints")
    plain = PlainTrainer(
        deepcopy(model), arguments, data_collator=parts.collate, train_dataset=rows
    )
    own = AdapterTrainer(model, arguments, context=context, settings=settings)

    plain.train()
    own.train()

    assert len(losses(own)) == 9  # 8, 8 and 4 rows in an epoch
    assert losses(own) == pytest.approx(losses(plain), abs=2e-4)  # logged to 4 decimals
    found = trained(own.model)
    for name, expected in trained(plain.model).items():
        change = (expected - before[name]).norm()
        assert change > 0
        assert (found[name] - expected).norm() < 1e-3 * change, name
