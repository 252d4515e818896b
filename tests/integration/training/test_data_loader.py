"""The loader of training rows, and Trainer's own samplers where a recipe asks for them."""

from types import SimpleNamespace

import pytest
from datasets import Dataset

from lora_tune.data.batching import StepBatches
from lora_tune.errors import DataError
from lora_tune.training.data_loader import make_loader
from lora_tune.training.trainer import AdapterTrainer


@pytest.mark.parametrize("strategy", [None, "group_by_length", "sequential"])
def test_a_recipe_can_choose_trainers_own_samplers(run_tiny, monkeypatch, strategy):
    loaders = []
    plain = AdapterTrainer.get_train_dataloader

    def watch(trainer):
        loaders.append(plain(trainer))
        return loaders[0]

    monkeypatch.setattr(AdapterTrainer, "get_train_dataloader", watch)
    training = {} if strategy is None else {"train_sampling_strategy": strategy}
    run_tiny(training=training | {"num_train_epochs": 1})
    (loader,) = loaders
    if strategy is None:
        assert isinstance(loader.batch_sampler, StepBatches)
    else:
        names = {"group_by_length": "LengthGroupedSampler", "sequential": "SequentialSampler"}
        assert type(loader.batch_sampler.sampler).__name__ == names[strategy]


def test_fewer_rows_than_processes_are_refused():
    rows = Dataset.from_dict({"input_ids": [[1]], "length": [1]})
    arguments = SimpleNamespace(world_size=2)
    with pytest.raises(DataError, match=r"^data.train: found 1 rows for 2 processes, expected at"):
        make_loader(rows, arguments, batch_size=1, collate=list)
