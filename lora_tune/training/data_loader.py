"""Loads training rows for Trainer, in batches of rows of similar length."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import DataLoader

from lora_tune.data.batching import MODEL_INPUTS, StepBatches
from lora_tune.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import TrainingArguments


class EpochLoader(DataLoader[Any]):
    """A data loader with a new order of batches in each epoch."""

    batch_sampler: StepBatches

    def set_epoch(self, epoch: int) -> None:
        """Select the epoch; called by Trainer."""
        self.batch_sampler.set_epoch(epoch)


def make_loader(
    rows: "Dataset",
    arguments: "TrainingArguments",
    *,
    batch_size: int,
    collate: Callable[..., Any],
) -> EpochLoader:
    """Make a loader of the batches of this process.

    Accelerate must not distribute the batches again: it would repeat rows to give all processes the
    same number.

    Args:
        rows: tokenized rows with a column `length`, in tokens.
        arguments: Trainer's, for the seed, gradient accumulation, processes and loader options.
        batch_size: rows in a batch.
        collate: pads rows to a batch.

    Raises:
        DataError: there are fewer rows than processes.
    """
    if len(rows) < arguments.world_size:
        raise DataError(
            f"data.train: found {len(rows)} rows for {arguments.world_size} processes, expected at "
            "least one for each; start fewer processes"
        )
    batches = StepBatches(
        np.asarray(rows["length"][:]),
        batch_size=batch_size,
        accumulation=arguments.gradient_accumulation_steps,
        seed=arguments.seed if arguments.data_seed is None else arguments.data_seed,
        processes=arguments.world_size,
        process=arguments.process_index,
    )
    return EpochLoader(
        rows.select_columns([name for name in MODEL_INPUTS if name in rows.column_names]),
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=arguments.dataloader_num_workers,
        pin_memory=arguments.dataloader_pin_memory,
        persistent_workers=arguments.dataloader_persistent_workers,
        prefetch_factor=arguments.dataloader_prefetch_factor,
        multiprocessing_context=arguments.dataloader_multiprocessing_context,
    )
