"""Batches: which rows they consist of, and how these are padded to one length."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.data.row_reader import RowReader

if TYPE_CHECKING:
    import torch
    from torch.nn import Module
    from transformers import PreTrainedTokenizerBase

IGNORE_INDEX = -100  # label, in transformers, of a token that the loss ignores
MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "labels")
_TOKENS = ("input_ids", "attention_mask", "token_type_ids")
# Collator -> columns that it pads to the longest input, columns padded to the longest target.
PADDED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "DataCollatorWithPadding": (_TOKENS, ()),
    "DataCollatorForTokenClassification": ((*_TOKENS, "labels"), ()),
    "DataCollatorForSeq2Seq": (_TOKENS, ("labels", "decoder_input_ids")),
}
POOL_STEPS = 64  # steps whose rows are sorted by length together
MIN_POOLS = 4  # in an epoch, so that the next epoch puts other rows together in a step
WIDTH_MULTIPLE = 32  # tokens; where each batch width costs time or memory, wide ones are rounded


def make_collator(
    tokenizer: "PreTrainedTokenizerBase", task: RowReader, model: "Module"
) -> Callable[..., Any]:
    """Make the task's data collator, which pads each batch to its longest row.

    Args:
        tokenizer: has the padding token and side.
        task: names the collator.
        model: shifts the labels to the right for the decoder, in an encoder-decoder.
    """
    import transformers

    options = {"model": model} if task.collator == "DataCollatorForSeq2Seq" else {}
    collator: Callable[..., Any] = getattr(transformers, task.collator)(tokenizer, **options)
    return collator


def batches_by_length(
    lengths: Sequence[float] | np.ndarray, token_budget: float, max_rows: int | None = None
) -> Iterator[np.ndarray]:
    """Put rows of similar length into batches, the longest first, to reduce padding.

    Args:
        lengths: (rows,), in tokens.
        token_budget: maximum tokens of a batch, padding included; a longer row is a batch alone.
        max_rows: maximum rows of a batch; None for as many as the budget allows.

    Yields:
        Row numbers of each batch; every row once.
    """
    lengths = np.asarray(lengths)
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, int(min(len(order), token_budget / max(1, lengths[order[start]]))))
        rows = rows if max_rows is None else min(rows, max_rows)
        yield order[start : start + rows]
        start += rows


@dataclass
class StepBatches:
    """The batches of one process: a batch sampler for torch's DataLoader.

    Each optimizer step has the same number of rows, of similar length. The rows are shuffled and
    cut into pools; each pool is sorted by length and cut into steps; all steps are shuffled. The
    step with the longest row comes first, so that running out of memory happens at once. Rows that
    do not fill a step are drawn before this, and come last.

    An epoch has every row once, and as many batches for every process: the rows of the last step
    are distributed evenly; where they are fewer than the processes, they join the step before.
    """

    lengths: np.ndarray  # (rows,), in tokens
    batch_size: int  # rows of a batch of one process
    accumulation: int  # batches of one process in an optimizer step
    seed: int
    processes: int = 1
    process: int = 0  # the index of this process
    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        """The number of batches in an epoch, the same for all processes."""
        tail = self._tail_rows()
        full = (len(self.lengths) - tail) // self._step_rows
        return full * self.accumulation + self._batches_of(tail)

    def __iter__(self) -> Iterator[list[int]]:
        """Iterate over the batches of an epoch: row numbers, the longest row first."""
        for rows in self.steps():
            parts = np.array_split(rows, self._batches_of(len(rows)) * self.processes)
            for part in parts[self.process :: self.processes]:
                yield part.tolist()

    def steps(self) -> list[np.ndarray]:
        """List the row numbers of each optimizer step over all processes, the longest row first."""
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.lengths))
        tail, order = np.split(order, [self._tail_rows()])
        steps = order.reshape(-1, self._step_rows)
        pools = np.array_split(steps, max(MIN_POOLS, -(-len(steps) // POOL_STEPS)))
        steps = np.concatenate([self._sort(pool.ravel()).reshape(pool.shape) for pool in pools])
        steps = generator.permutation(steps)
        if len(steps):
            longest = int(self.lengths[steps[:, 0]].argmax())
            steps[[0, longest]] = steps[[longest, 0]]
        return [*steps, self._sort(tail)] if len(tail) else [*steps]

    @property
    def _step_rows(self) -> int:
        return self.batch_size * self.accumulation * self.processes

    def _tail_rows(self) -> int:
        """The number of rows of the last step, where it differs from the others; else 0."""
        full, rest = divmod(len(self.lengths), self._step_rows)
        return rest + self._step_rows if full and 0 < rest < self.processes else rest

    def _batches_of(self, rows: int) -> int:
        """The number of batches of each process in a step, such that no batch is empty."""
        needed = -(-rows // (self.batch_size * self.processes))
        return min(self.accumulation, needed, rows // self.processes)

    def _sort(self, rows: np.ndarray) -> np.ndarray:
        return rows[np.argsort(-self.lengths[rows], kind="stable")]


def split_batch(
    inputs: Mapping[str, "torch.Tensor"],
    token_budget: float,
    collator: str,
    *,
    max_width: int | None = None,
) -> list[dict[str, "torch.Tensor"]]:
    """Split a padded batch into micro-batches of rows of similar length, with less padding.

    Args:
        inputs: of the model, (rows, ...) each, padded by the task's collator.
        token_budget: maximum tokens of a micro-batch, padding included, for the encoder's and for
            the decoder's inputs; a longer row is a micro-batch alone.
        collator: the name of the task's collator.
        max_width: in tokens; micro-batches are padded to one of few widths up to this. Requires a
            batch that is padded to a multiple of WIDTH_MULTIPLE. None: to their longest row only.

    Returns:
        The model's inputs for each micro-batch.
    """
    if "attention_mask" not in inputs:  # of models whose padding cannot be found
        return [dict(inputs)]
    input_columns, target_columns = PADDED[collator]
    input_mask = inputs["attention_mask"].bool()  # (rows, tokens)
    target_mask = inputs["labels"] != IGNORE_INDEX if target_columns else input_mask
    lengths = input_mask.sum(dim=1).maximum(target_mask.sum(dim=1)).tolist()
    if max_width is not None:
        lengths = [widen(length, max_width) for length in lengths]
    micro_batches = []
    for numbers in batches_by_length(lengths, token_budget):
        rows = numbers.tolist()
        batch = {name: values[rows] for name, values in inputs.items()}
        for names, mask in ((input_columns, input_mask), (target_columns, target_mask)):
            positions = _used_positions(mask[rows].any(dim=0), max_width)
            batch |= {name: batch[name][:, positions] for name in names if name in batch}
        micro_batches.append(batch)
    return micro_batches


def widen(width: int, max_width: int) -> int:
    """Round a width up to one of few, by less than an eighth and not above a maximum.

    There are eight widths between two powers of two; above 256, the widths are multiples of 32.

    Args:
        width: in tokens.
        max_width: in tokens.
    """
    step = min(WIDTH_MULTIPLE, 1 << max(0, (width // 8).bit_length() - 1))
    return max(width, min(max_width, -(-width // step) * step))


def _used_positions(is_used: "torch.Tensor", max_width: int | None) -> slice:
    """Find the positions from the first used one to the last, widened where max_width is set.

    Args:
        is_used: (tokens,), whether any row has a token there.
        max_width: in tokens.
    """
    first = int(is_used.int().argmax())
    width = len(is_used) - int(is_used.flip(0).int().argmax()) - first
    if max_width is not None:
        width = min(len(is_used), widen(width, max_width))
    start = min(first, len(is_used) - width)
    return slice(start, start + width)


def model_inputs(columns: dict[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Turn columns into rows with the inputs of a model, as a collator takes them."""
    names = [name for name in MODEL_INPUTS if name in columns]
    return [
        dict(zip(names, row, strict=True)) for row in zip(*map(columns.get, names), strict=True)
    ]
