"""Which rows go into a batch, and how they are padded to one length."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.tasks import Task
from lora_tune.tasks.task import IGNORED

if TYPE_CHECKING:
    import torch
    from torch.nn import Module
    from transformers import PreTrainedTokenizerBase

MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "labels")
_TOKENS = ("input_ids", "attention_mask", "token_type_ids")
# By collator: what it pads to the longest input, and what to the longest target.
PADDED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "DataCollatorWithPadding": (_TOKENS, ()),
    "DataCollatorForTokenClassification": ((*_TOKENS, "labels"), ()),
    "DataCollatorForSeq2Seq": (_TOKENS, ("labels", "decoder_input_ids")),
}
POOL_STEPS = 64  # sorted by length together
MULTIPLE = 32  # tokens; of the widths of wide batches, where each width has a price
FEWEST_POOLS = 4  # in an epoch, so that the rows of a step are others in the next


def make_collator(
    tokenizer: "PreTrainedTokenizerBase", task: Task, model: "Module"
) -> Callable[..., Any]:
    """Pad each batch to its own longest row.

    Args:
        model: shifts the labels for its decoder, where it has one of its own.
    """
    import transformers

    options = {"model": model} if task.collator == "DataCollatorForSeq2Seq" else {}
    collator: Callable[..., Any] = getattr(transformers, task.collator)(tokenizer, **options)
    return collator


def batches_by_length(
    lengths: Sequence[float] | np.ndarray, token_budget: float, most_rows: int | None = None
) -> Iterator[np.ndarray]:
    """Batch rows of like length, the longest first, so that little is padded.

    Args:
        lengths: of each row, in tokens.
        token_budget: most tokens of a batch, padding counted; a longer row goes alone.
        most_rows: of a batch; None for as many as the budget lets in.

    Yields:
        Row numbers; every row once.
    """
    lengths = np.asarray(lengths)
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, int(min(len(order), token_budget / max(1, lengths[order[start]]))))
        rows = rows if most_rows is None else min(rows, most_rows)
        yield order[start : start + rows]
        start += rows


@dataclass
class StepBatches:
    """The batches of one process, a sampler for torch's DataLoader.

    Each optimizer step takes the same number of rows, of like length. The rows are shuffled and cut
    into pools; each pool is sorted by length and cut into steps, which are shuffled; the one with
    the longest row comes first, so that a lack of memory shows at once. What fills no step is drawn
    before, and comes last.

    Every row comes once in an epoch, and every process has as many batches: the last step is shared
    out evenly, and where it has fewer rows than there are processes, they join the step before.
    """

    lengths: np.ndarray  # of each row, in tokens
    batch_size: int  # rows
    accumulation: int  # batches of each process in a step
    seed: int
    processes: int = 1
    process: int = 0  # whose batches these are
    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches come next."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches in an epoch, the same for all processes."""
        tail = self._tail_rows()
        full = (len(self.lengths) - tail) // self._step_rows
        return full * self.accumulation + self._batches_of(tail)

    def __iter__(self) -> Iterator[list[int]]:
        """Row numbers of each batch, longest first."""
        for rows in self.steps():
            parts = np.array_split(rows, self._batches_of(len(rows)) * self.processes)
            for part in parts[self.process :: self.processes]:
                yield part.tolist()

    def steps(self) -> list[np.ndarray]:
        """Row numbers of each optimizer step of the epoch, over all processes, longest first."""
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.lengths))
        tail, order = np.split(order, [self._tail_rows()])
        steps = order.reshape(-1, self._step_rows)
        pools = np.array_split(steps, max(FEWEST_POOLS, -(-len(steps) // POOL_STEPS)))
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
        """How many rows are in the last step, where it is not like the others."""
        full, rest = divmod(len(self.lengths), self._step_rows)
        return rest + self._step_rows if full and 0 < rest < self.processes else rest

    def _batches_of(self, rows: int) -> int:
        """How many batches each process gets of a step; every one has a row."""
        needed = -(-rows // (self.batch_size * self.processes))
        return min(self.accumulation, needed, rows // self.processes)

    def _sort(self, rows: np.ndarray) -> np.ndarray:
        return rows[np.argsort(-self.lengths[rows], kind="stable")]


def split_batch(
    inputs: Mapping[str, "torch.Tensor"],
    token_budget: float,
    task: Task,
    *,
    most_width: int | None = None,
) -> list[dict[str, "torch.Tensor"]]:
    """Split a padded batch into micro-batches of like length, each padded to its own longest.

    Args:
        inputs: of the model, (rows, ...) each, padded by the task's collator.
        token_budget: most tokens of a micro-batch, padding counted; a decoder's own input is held
            to it too. A longer row goes alone.
        most_width: tokens; up to there, a micro-batch is padded on to one of few widths. The batch
            is to be padded to a multiple of MULTIPLE. None: to no more than its longest row.
    """
    if "attention_mask" not in inputs:  # of models that tell no padding apart
        return [dict(inputs)]
    with_input, with_target = PADDED[task.collator]
    filled = inputs["attention_mask"].bool()
    aimed = inputs["labels"] != IGNORED if with_target else filled
    lengths = filled.sum(dim=1).maximum(aimed.sum(dim=1)).tolist()
    if most_width is not None:
        lengths = [widen(length, most_width) for length in lengths]
    parts = []
    for numbers in batches_by_length(lengths, token_budget):
        rows = numbers.tolist()
        part = {name: values[rows] for name, values in inputs.items()}
        for names, kept in ((with_input, filled), (with_target, aimed)):
            places = _filled_places(kept[rows].any(dim=0), most_width)
            part |= {name: part[name][:, places] for name in names if name in part}
        parts.append(part)
    return parts


def widen(width: int, most: int) -> int:
    """Round a width up to one of few: by less than an eighth, and not to above the most.

    From one power of two to the next there are eight widths, and above 256 the multiples of 32.
    """
    step = min(MULTIPLE, 1 << max(0, (width // 8).bit_length() - 1))
    return max(width, min(most, -(-width // step) * step))


def _filled_places(filled: "torch.Tensor", most_width: int | None) -> slice:
    """Find the places from the first that is filled to the last, and padding beside them."""
    first = int(filled.int().argmax())
    width = len(filled) - int(filled.flip(0).int().argmax()) - first
    if most_width is not None:
        width = min(len(filled), widen(width, most_width))
    start = min(first, len(filled) - width)
    return slice(start, start + width)


def model_inputs(columns: dict[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Turn columns into rows that hold what a model takes."""
    names = [name for name in MODEL_INPUTS if name in columns]
    return [
        dict(zip(names, row, strict=True)) for row in zip(*map(columns.get, names), strict=True)
    ]
