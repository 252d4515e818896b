"""Adapters merged into their base model: a plain model, and how far its outputs changed."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lora_tune.artifacts.manifest import CARD_FILE
from lora_tune.artifacts.model_card import write_merged_card
from lora_tune.artifacts.saved_model import SavedModel, load_base
from lora_tune.config.redaction import redact
from lora_tune.data.batching import make_collator
from lora_tune.data.rows import Split
from lora_tune.errors import ArtifactError
from lora_tune.evaluation.model_evaluation import compute_outputs, evaluate_outputs
from lora_tune.lora.adapter import detach_adapter, load_adapter_weights, merge_adapter
from lora_tune.lora.combination import combine_adapters
from lora_tune.models.pooling import pool_mean, write_pooling
from lora_tune.models.quantization import restore_weights
from lora_tune.system.atomic_directory import apply_umask, publishing
from lora_tune.system.environment import find_device, quiet_loading, seed_everything
from lora_tune.tasks import Task

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PARITY_FILE = "parity.json"
# What rounding may change; a merge that lost a head or a factor changes far more.
MAX_FLIPPED = 0.01  # share of the predictions
MAX_LOGIT_DIFFERENCE = 1.0
MAX_VALUE_DIFFERENCE = 0.05  # share of the outputs' range, for a regression, where nothing flips


@dataclass(frozen=True)
class Parity:
    """The outputs of a merged model compared with those of its base model with the adapter."""

    adapters: list[str]
    weights: list[float]
    combination: str | None  # method; None for one adapter
    base_quantization: str | None  # while the adapter was trained
    base_dtype: str  # of the weights that were not quantized
    dtype: str  # of the merged weights
    rows: int
    largest_logit_difference: float
    predictions: int  # one or several per row
    flipped_predictions: int
    allowed_difference: float  # of a logit
    threshold: float | None  # of a label's probability, where rows have several labels
    metric: str
    unmerged: float  # value of the metric
    merged: float

    @property
    def is_close(self) -> bool:
        """Whether rounding alone explains the differences."""
        return (
            self.flipped_predictions <= MAX_FLIPPED * self.predictions
            and self.largest_logit_difference <= self.allowed_difference
        )


@dataclass(frozen=True)
class Combination:
    """Adapters to merge, and how several are combined; see `combine_adapters`."""

    adapters: list[SavedModel]
    weights: list[float]  # one for each adapter
    method: str
    density: float  # share of values that TIES and DARE keep

    @property
    def first(self) -> SavedModel:
        """The adapter whose base model, tokenizer and rows are used."""
        return self.adapters[0]

    def attach(self, model: "PreTrainedModel") -> "Module":
        """Attach the adapters to a base model."""
        if len(self.adapters) == 1:
            return load_adapter_weights(model, self.first.folder)
        seed_everything(0)  # DARE drops values at random
        return combine_adapters(
            model,
            [adapter.folder for adapter in self.adapters],
            weights=self.weights,
            combination=self.method,
            density=self.density,
        )


def check_compatible(adapters: Sequence[SavedModel]) -> None:
    """Check that adapters have the same task, labels, base model and tokenizer.

    Raises:
        ArtifactError: one of them differs from the first.
    """
    first, *others = ((adapter, _describe_compatibility(adapter)) for adapter in adapters)
    for adapter, description in others:
        for name, found in description.items():
            expected = first[1][name]
            if found != expected:
                raise ArtifactError(
                    f"{adapter.name}: cannot be combined with {first[0].name}: its {name}, "
                    f"{found}, differs from {expected}"
                )


def write_merged_model(
    combination: Combination,
    rows: Split,
    final: Path,
    *,
    base: str | None,
    dtype: str,
    force: bool,
    show: Callable[[Parity], None],
) -> None:
    """Merge adapters into their base model and write a plain transformers model.

    Args:
        combination: the adapters; `check_compatible` must hold for them.
        rows: to compare the outputs on.
        final: a new or empty directory.
        base: a folder or Hub ID of the base model; None for the one that the adapter names.
        dtype: of the weights, by its name in torch.
        force: whether to write the model however far its outputs are from the adapter's.
        show: takes the parity report before the model is written.

    Raises:
        LoraTuneError: the base model is wrong, the adapters cannot be combined, or the outputs of
            the merged model differ too much.
    """
    first = combination.first
    task = first.task
    model, tokenizer, _ = load_base(first, base)
    adapted = combination.attach(model)
    unmerged = _compute_outputs(adapted, tokenizer, rows, task, title="unmerged")
    if first.base.model_config().is_rounded:
        # PEFT would merge into the rounded weights and round the adapter away: merge into the full
        # precision model that computes with the same values.
        model, _, _ = load_base(first, base, in_full=True)
        restore_weights(model, detach_adapter(adapted))
        adapted = combination.attach(model)
    with publishing(final) as draft:
        merged_model = _write_model(merge_adapter(adapted), tokenizer, draft, dtype, task)
        merged = _compute_outputs(merged_model, tokenizer, rows, task, title="merged")
        parity = _measure_parity(combination, rows, unmerged, merged, dtype=dtype)
        show(parity)
        if not parity.is_close and not force:
            raise ArtifactError(
                f"the merged model differs too much from the adapter: expected at most "
                f"{MAX_FLIPPED:.0%} of predictions flipped and no logit changed by more than "
                f"{parity.allowed_difference:g}; nothing was written; --force writes it anyway"
            )
        report = json.dumps(asdict(parity), indent=2) + "\n"
        card = write_merged_card(first.manifest, parity)
        for name, text in {PARITY_FILE: report, CARD_FILE: card}.items():
            (draft / name).write_text(redact(text), encoding="utf-8")


def _describe_compatibility(adapter: SavedModel) -> dict[str, object]:
    """What must be the same for adapters that are combined, by its name in a message."""
    manifest = adapter.manifest
    files = manifest.files.items()
    return {
        "task": manifest.task,
        "labels": manifest.labels,
        "base model's weights": sorted(adapter.base.weights_sha256.values()),
        "head": [name for name in manifest.tensors if ".lora_" not in name],
        "pooling": adapter.task.pooling,
        "base model's precision": adapter.base.model_config().precision,
        "tokenizer": [file.sha256[:12] for name, file in files if name.startswith("tokenizer")],
    }


def _compute_outputs(
    model: "Module", tokenizer: "PreTrainedTokenizerBase", rows: Split, task: Task, *, title: str
) -> list[np.ndarray]:
    collate = make_collator(tokenizer, task, model)
    return compute_outputs(model, rows.encoded[:], task=task, collate=collate, title=title)


def _write_model(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    folder: Path,
    dtype: str,
    task: Task,
) -> "PreTrainedModel":
    """Write a merged model, and load it again with transformers alone."""
    import torch
    import transformers

    model.to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        apply_umask(path)  # safetensors makes its files readable for their owner only
    with quiet_loading():
        loaded = getattr(transformers, task.auto_class).from_pretrained(folder)
    if task.pooling == "mean":
        write_pooling(folder, loaded.config.get_text_config().hidden_size)
        pool_mean(loaded)
    return loaded.to(find_device())


def _measure_parity(
    combination: Combination,
    rows: Split,
    unmerged: Sequence[np.ndarray],
    merged: Sequence[np.ndarray],
    *,
    dtype: str,
) -> Parity:
    """Compare outputs, (outputs, numbers) of each row."""
    task, base = combination.first.task, combination.first.base
    metric = task.primary_metric.name
    pairs = list(zip(merged, unmerged, strict=True))
    return Parity(
        adapters=[adapter.name for adapter in combination.adapters],
        weights=combination.weights,
        combination=combination.method if len(combination.adapters) > 1 else None,
        base_quantization=base.quantization,
        base_dtype=base.dtype,
        dtype=dtype,
        rows=len(rows.rows.texts),
        largest_logit_difference=max(float(np.abs(one - other).max()) for one, other in pairs),
        predictions=sum(len(task.decide(row)) for row in merged),
        flipped_predictions=sum(
            int((task.decide(one) != task.decide(other)).sum()) for one, other in pairs
        ),
        allowed_difference=_allowed_difference(task, unmerged),
        threshold=task.chosen_threshold,
        metric=metric,
        unmerged=evaluate_outputs(unmerged, rows, task).metrics[metric],
        merged=evaluate_outputs(merged, rows, task).metrics[metric],
    )


def _allowed_difference(task: Task, outputs: Sequence[np.ndarray]) -> float:
    """How far a logit may change; for a regression, whose outputs are values, in their unit."""
    if sum(len(task.decide(row)) for row in outputs):
        return MAX_LOGIT_DIFFERENCE
    return MAX_VALUE_DIFFERENCE * float(np.ptp(np.concatenate(outputs)))
