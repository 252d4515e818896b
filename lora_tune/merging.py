"""One adapter or several merged into their base: a plain model, with proof of what it changed."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lora_tune.adapter import (
    Combination,
    combine_adapters,
    detach_adapter,
    load_adapter_weights,
    merge_adapter,
)
from lora_tune.artifact import Artifact, find_adapter
from lora_tune.assessment import find_rows, read_recipe
from lora_tune.batching import make_collator
from lora_tune.card import write_merged_card
from lora_tune.classifier import load_adapter_base
from lora_tune.data import Split
from lora_tune.environment import find_device, quiet_loading, seed_everything
from lora_tune.errors import ArtifactError
from lora_tune.evaluation import predict_logits
from lora_tune.manifest import CARD_FILE
from lora_tune.model import dequantize_into
from lora_tune.publishing import make_draft, publish, resolve_output
from lora_tune.tasks import find_task

if TYPE_CHECKING:
    from peft import PeftModel
    from torch.nn import Module
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("float32", "bfloat16", "float16")
PARITY_FILE = "parity.json"
# What rounding may do. A merge that lost a head or a factor is far beyond.
MOST_FLIPPED = 0.01  # of the rows
LARGEST_DIFFERENCE = 1.0  # of a logit


@dataclass(frozen=True)
class Parity:
    """A merged model against its base with the adapter beside it, on the same rows."""

    adapters: list[str]
    weights: list[float]
    combination: str | None  # None where there is one adapter
    base_quantization: str | None  # while the adapter was trained
    dtype: str
    rows: int
    largest_logit_difference: float
    flipped_predictions: int
    metric: str
    unmerged: float
    merged: float

    @property
    def is_close(self) -> bool:
        """Whether rounding alone may have made the difference."""
        return (
            self.flipped_predictions <= MOST_FLIPPED * self.rows
            and self.largest_logit_difference <= LARGEST_DIFFERENCE
        )


def merge_adapters(
    sources: Sequence[str | Path],
    *,
    output: Path,
    data: Path | None = None,
    base: str | None = None,
    dtype: str = "float32",
    combination: Combination = "linear",
    weights: Sequence[float] | None = None,
    density: float = 0.5,
    force: bool = False,
    show: Callable[[Parity], None],
) -> Path:
    """Merge adapters into their base and write a plain transformers model.

    Args:
        sources: adapter directories or Hub ids, all of one base and the same labels.
        output: a new or empty directory.
        data: labelled rows to compare on; None for the test rows of the first adapter's run.
        base: where the base is; None for the place that the first adapter names.
        dtype: of the weights written, one of DTYPES.
        combination: of several adapters; see `combine_adapters`.
        weights: one for each adapter; None for equal shares of 1.
        density: the share of values that TIES and DARE keep.
        force: write the model however far it is from the adapter.
        show: takes the parity report.

    Raises:
        LoraTuneError: an adapter, its base or the rows are not as they should be; the adapters do
            not go together; or the merged model is too far from the adapter.
    """
    import torch
    import transformers

    final = resolve_output(output)
    artifacts = [find_adapter(source) for source in sources]
    _check_together(artifacts)
    weights = list(weights) if weights else [1 / len(artifacts)] * len(artifacts)
    if len(weights) != len(artifacts) or sum(weights) <= 0:
        raise ArtifactError(
            f"--weights: found {weights}, expected {len(artifacts)}, one for each adapter, with a "
            "sum above 0"
        )
    first = artifacts[0]
    task, recipe = find_task(first.manifest.task), read_recipe(first, data)
    rows, _ = find_rows(first, recipe, data)

    def attach(model: "PreTrainedModel") -> "PeftModel":
        if len(artifacts) == 1:
            return load_adapter_weights(model, first.folder)
        seed_everything(0)  # DARE drops at random
        folders = [artifact.folder for artifact in artifacts]
        return combine_adapters(
            model, folders, weights=weights, combination=combination, density=density
        )

    model, tokenizer, _ = load_adapter_base(first, base)
    adapted = attach(model)
    unmerged = _answer(adapted, tokenizer, rows, title="unmerged")
    if first.manifest.base.quantization is not None:
        # PEFT would merge into 4 or 8 bits and round the adapter away: merge into what they mean.
        model, _, _ = load_adapter_base(first, base, quantized=False)
        dequantize_into(model, detach_adapter(adapted))
        adapted = attach(model)
    draft = make_draft(final)
    try:
        plain = merge_adapter(adapted).to(getattr(torch, dtype))
        plain.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        auto_class = getattr(transformers, task.auto_class)
        with quiet_loading():
            loaded = auto_class.from_pretrained(draft).to(find_device())
        merged = _answer(loaded, tokenizer, rows, title="merged")
        parity = Parity(
            adapters=[artifact.name for artifact in artifacts],
            weights=weights,
            combination=combination if len(artifacts) > 1 else None,
            base_quantization=first.manifest.base.quantization,
            dtype=dtype,
            rows=len(rows.rows.texts),
            largest_logit_difference=float(np.abs(merged - unmerged).max()),
            flipped_predictions=int((merged.argmax(1) != unmerged.argmax(1)).sum()),
            metric=task.metric,
            unmerged=task.score(unmerged, rows.rows.labels)[task.metric],
            merged=task.score(merged, rows.rows.labels)[task.metric],
        )
        show(parity)
        if not parity.is_close and not force:
            raise ArtifactError(
                f"the merged model is too far from the adapter: expected at most "
                f"{MOST_FLIPPED:.0%} of predictions flipped and no logit changed by more than "
                f"{LARGEST_DIFFERENCE:g}; nothing was written; --force writes it all the same"
            )
        (draft / PARITY_FILE).write_text(json.dumps(asdict(parity), indent=2) + "\n")
        (draft / CARD_FILE).write_text(write_merged_card(first.manifest, parity), encoding="utf-8")
        publish(draft, final)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return final


def _check_together(artifacts: Sequence[Artifact]) -> None:
    first = artifacts[0]
    for other in artifacts[1:]:
        for what, mine, its in (
            ("task", first.manifest.task, other.manifest.task),
            ("labels", first.manifest.labels, other.manifest.labels),
            (
                "base weights",
                sorted(first.manifest.base.weights_sha256.values()),
                sorted(other.manifest.base.weights_sha256.values()),
            ),
            (
                "head",
                [name for name in first.manifest.tensors if ".lora_" not in name],
                [name for name in other.manifest.tensors if ".lora_" not in name],
            ),
            ("quantization", first.manifest.base.quantization, other.manifest.base.quantization),
        ):
            if mine != its:
                raise ArtifactError(
                    f"{other.name}: does not go together with {first.name}: its {what}, {its}, "
                    f"differs from {mine}"
                )


def _answer(
    model: "Module", tokenizer: "PreTrainedTokenizerBase", rows: Split, *, title: str
) -> np.ndarray:
    return predict_logits(model, rows.encoded[:], collate=make_collator(tokenizer), title=title)
