"""One adapter or several merged into their base: a plain model, with proof of what it changed."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lora_tune.adapter import detach_adapter, load_adapter_weights, merge_adapter
from lora_tune.artifact import Artifact, find_adapter
from lora_tune.assessment import find_rows, read_recipe
from lora_tune.batching import make_collator
from lora_tune.card import write_merged_card
from lora_tune.combining import combine_adapters
from lora_tune.environment import find_device, quiet_loading, seed_everything
from lora_tune.errors import ArtifactError
from lora_tune.evaluation import answer_rows, judge_answers
from lora_tune.manifest import CARD_FILE
from lora_tune.model import dequantize_into
from lora_tune.predictor import load_adapter_base
from lora_tune.publishing import open_to_others, publishing, resolve_output
from lora_tune.redaction import redact
from lora_tune.rows import Split
from lora_tune.tasks import Task

if TYPE_CHECKING:
    from peft import PeftModel
    from torch.nn import Module
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PARITY_FILE = "parity.json"
LINEAR, DENSITY = "linear", 0.5  # where several adapters are combined and nothing is said
# What rounding may do. A merge that lost a head or a factor is far beyond.
MOST_FLIPPED = 0.01  # of the predictions
LARGEST_DIFFERENCE = 1.0  # of a logit
MOST_SPREAD = 0.05  # of the answers' spread, where they are numbers and nothing can flip


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
    predictions: int  # one for each row, or several
    flipped_predictions: int
    allowed_difference: float
    metric: str
    unmerged: float
    merged: float

    @property
    def is_close(self) -> bool:
        """Whether rounding alone may have made the difference."""
        return (
            self.flipped_predictions <= MOST_FLIPPED * self.predictions
            and self.largest_logit_difference <= self.allowed_difference
        )


@dataclass(frozen=True)
class Blend:
    """Adapters that go together, and how they are combined where there are several."""

    artifacts: list[Artifact]
    weights: list[float]
    combination: str
    density: float

    @property
    def first(self) -> Artifact:
        """The adapter whose base, tokenizer and rows stand for all."""
        return self.artifacts[0]

    def attach(self, model: "PreTrainedModel") -> "PeftModel":
        """Put the adapters onto a base."""
        if len(self.artifacts) == 1:
            return load_adapter_weights(model, self.first.folder)
        seed_everything(0)  # DARE drops at random
        return combine_adapters(
            model,
            [artifact.folder for artifact in self.artifacts],
            weights=self.weights,
            combination=self.combination,
            density=self.density,
        )


def merge_adapters(
    sources: Sequence[str | Path],
    *,
    output: Path,
    data: Path | None = None,
    base: str | None = None,
    dtype: str = "float32",
    combination: str | None = None,
    weights: Sequence[float] | None = None,
    density: float | None = None,
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
        combination: of several adapters, one of COMBINATIONS; None for linear; see
            `combine_adapters`.
        weights: one for each of several adapters; None for equal shares of 1.
        density: the share of values that TIES and DARE keep; None for 0.5.
        force: write the model however far it is from the adapter.
        show: takes the parity report.

    Raises:
        LoraTuneError: an adapter, its base or the rows are not as they should be; the adapters do
            not go together; or the merged model is too far from the adapter.
    """
    final = resolve_output(output)
    if len(sources) == 1 and (combination or weights):
        raise ArtifactError("--combine, --weights: found one adapter; they are for several")
    combination = combination or LINEAR
    if density is not None and (len(sources) == 1 or combination == LINEAR):
        raise ArtifactError("--density: is for --combine ties, dare_linear and dare_ties")
    artifacts = [find_adapter(source) for source in sources]
    _check_together(artifacts)
    shares = _share_out(weights, len(artifacts))
    blend = Blend(artifacts, shares, combination, DENSITY if density is None else density)
    manifest = blend.first.manifest
    task = blend.first.task
    rows, _ = find_rows(blend.first, read_recipe(blend.first, data), data)
    model, tokenizer, _ = load_adapter_base(blend.first, base)
    adapted = blend.attach(model)
    unmerged = _answer(adapted, tokenizer, rows, task, title="unmerged")
    if manifest.base.quantization is not None:
        # PEFT would merge into 4 or 8 bits and round the adapter away: merge into what they mean.
        model, _, _ = load_adapter_base(blend.first, base, quantized=False)
        dequantize_into(model, detach_adapter(adapted))
        adapted = blend.attach(model)
    with publishing(final) as draft:
        merged_model = _write_model(merge_adapter(adapted), tokenizer, draft, dtype, task)
        merged = _answer(merged_model, tokenizer, rows, task, title="merged")
        several = len(artifacts) > 1
        parity = Parity(
            adapters=[artifact.name for artifact in artifacts],
            weights=blend.weights,
            combination=combination if several else None,
            base_quantization=manifest.base.quantization,
            dtype=dtype,
            rows=len(rows.rows.texts),
            largest_logit_difference=max(
                float(np.abs(one - other).max())
                for one, other in zip(merged, unmerged, strict=True)
            ),
            predictions=sum(len(task.decide(answer)) for answer in merged),
            flipped_predictions=sum(
                int((task.decide(one) != task.decide(other)).sum())
                for one, other in zip(merged, unmerged, strict=True)
            ),
            allowed_difference=_allow(task, unmerged),
            metric=task.measure.name,
            unmerged=judge_answers(unmerged, rows, task).metrics[task.measure.name],
            merged=judge_answers(merged, rows, task).metrics[task.measure.name],
        )
        show(parity)
        if not parity.is_close and not force:
            raise ArtifactError(
                f"the merged model is too far from the adapter: expected at most "
                f"{MOST_FLIPPED:.0%} of predictions flipped and no logit changed by more than "
                f"{parity.allowed_difference:g}; nothing was written; --force writes it anyway"
            )
        report = json.dumps(asdict(parity), indent=2) + "\n"
        for name, text in {
            PARITY_FILE: report,
            CARD_FILE: write_merged_card(manifest, parity),
        }.items():
            (draft / name).write_text(redact(text), encoding="utf-8")
    return final


def _write_model(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    folder: Path,
    dtype: str,
    task: Task,
) -> "PreTrainedModel":
    """Write a merged model, and load it again as anyone would."""
    import torch
    import transformers

    model.to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        open_to_others(path)  # safetensors leaves its files to their owner alone
    with quiet_loading():
        loaded = getattr(transformers, task.auto_class).from_pretrained(folder)
    return loaded.to(find_device())


def _allow(task: Task, answers: Sequence[np.ndarray]) -> float:
    """How far a number of an answer may move: where it is the answer, in parts of their spread."""
    if sum(len(task.decide(answer)) for answer in answers):
        return LARGEST_DIFFERENCE
    return MOST_SPREAD * float(np.ptp(np.concatenate(answers)))


def _share_out(weights: Sequence[float] | None, adapters: int) -> list[float]:
    if weights is None:
        return [1 / adapters] * adapters
    if len(weights) != adapters or not sum(weights) > 0:
        raise ArtifactError(
            f"--weights: found {list(weights)}, expected {adapters}, one for each adapter, with a "
            "sum above 0"
        )
    return list(weights)


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
            ("tokenizer", _tokenizer_hashes(first), _tokenizer_hashes(other)),
        ):
            if mine != its:
                raise ArtifactError(
                    f"{other.name}: does not go together with {first.name}: its {what}, {its}, "
                    f"differs from {mine}"
                )


def _tokenizer_hashes(artifact: Artifact) -> list[str]:
    files = artifact.manifest.files.items()
    return [record.sha256[:12] for name, record in files if name.startswith("tokenizer")]


def _answer(
    model: "Module", tokenizer: "PreTrainedTokenizerBase", rows: Split, task: Task, *, title: str
) -> list[np.ndarray]:
    collate = make_collator(tokenizer, task, model)
    return answer_rows(model, rows.encoded[:], task=task, collate=collate, title=title)
