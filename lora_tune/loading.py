"""The loader that hands training rows to Trainer, in batches of like length."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import DataLoader

from lora_tune.batching import MODEL_INPUTS, StepBatches
from lora_tune.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import TrainingArguments


class EpochLoader(DataLoader[Any]):
    """A loader whose batches Trainer chooses anew for each epoch."""

    batch_sampler: StepBatches

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; called by Trainer."""
        self.batch_sampler.set_epoch(epoch)


def make_loader(
    rows: "Dataset",
    arguments: "TrainingArguments",
    *,
    batch_size: int,
    collate: Callable[..., Any],
) -> EpochLoader:
    """Make a loader of this process's own share of the batches.

    Accelerate is not to share them out again: it would repeat rows, for processes with fewer.

    Args:
        rows: encoded, with a column for their length.
        arguments: seed, accumulation, processes and all that is about loading.
        batch_size: rows of a batch.

    Raises:
        DataError: there are fewer rows than processes.
    """
    if len(rows) < arguments.world_size:
        raise DataError(
            f"data.train: found {len(rows)} rows for {arguments.world_size} processes, expected at "
            "least one for each; start fewer processes"
        )
    batches = StepBatches(
        np.asarray(rows["length"]),
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
