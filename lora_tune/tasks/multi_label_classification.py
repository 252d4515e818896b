"""Any of several labels for each text, or for each pair of texts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.errors import DataError
from lora_tune.linear import LabelAnswers, LinearAnswers
from lora_tune.metrics import MICRO_F1, Measure, f1_of, score_sums
from lora_tune.recipe import DataConfig
from lora_tune.rows import Split
from lora_tune.suggestions import did_you_mean
from lora_tune.tasks.text_task import TextTask, read_inputs
from lora_tune.texts import ROW, number_of, own_names

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

LINEAR = LabelAnswers()


@dataclass(frozen=True)
class Labels:
    """What a model says of one text."""

    labels: list[str]  # those as likely as the threshold, or likelier
    probabilities: dict[str, float]  # of each label

    @property
    def label(self) -> str:
        """All labels."""
        return "; ".join(self.labels) or "none"

    def tell(self) -> str:
        """Say all labels, and how likely each is."""
        told = (f"{name} {self.probabilities[name]:.2f}" for name in self.labels)
        return "; ".join(told) or "none"

    def cells(self) -> dict[str, Any]:
        """All labels, as JSON, and the probability of each."""
        return {"labels": self.labels} | {f"p_{n}": p for n, p in self.probabilities.items()}


@dataclass(frozen=True)
class MultiLabelClassification(TextTask):
    """What sets this task apart from others."""

    name: str = "multi_label_classification"
    measure: Measure = MICRO_F1
    metrics: tuple[str, ...] = ("micro_f1", "macro_f1", "exact")
    problem_type: str = "multi_label_classification"
    pipeline_options: str = ", truncation=True, top_k=None"
    has_classes: bool = False
    linear: LinearAnswers = LINEAR
    purpose: str = "to give a text any of {labels}"
    limits: str = "A text may get none of them."
    threshold: float = 0.5  # of a label's probability

    def known_labels(self, config: DataConfig) -> list[str] | None:
        """Those that the recipe names."""
        return config.labels

    def find_labels(self, rows: "Dataset", config: DataConfig) -> list[str]:
        """Name the labels: the recipe's, the column's, or those found."""
        names = config.labels or own_names(rows, config.label)
        if names is None:
            found = {str(label) for row in rows[config.label] for label in _listed(row) or ()}
            names = sorted(found)
        if len(names) < 2:
            raise DataError(
                f"data.label: column {config.label!r} of train holds the labels {list(names)}, "
                "expected lists of at least 2 in all"
            )
        return list(names)

    def read_rows(
        self, rows: "Dataset", config: DataConfig, labels: Sequence[str], *, where: str
    ) -> tuple[list[str], list[Any], np.ndarray, list[str]]:
        """Read texts, or pairs of them, and labels, (rows, labels) of 0 and 1.

        Raises:
            DataError: a row's labels are no list, or not among the labels.
        """
        texts, inputs = read_inputs(rows, config, where=where)
        own = own_names(rows, config.label)
        listed = list(map(_listed, rows[config.label]))
        if _is_multi_hot(listed, len(labels)):
            present = np.array(listed, dtype=float)
        else:
            present = np.zeros((len(texts), len(labels)))
            for row, (place, given) in enumerate(zip(rows[ROW], listed, strict=True)):
                here = f"{where}: column {config.label!r}, row {place} (rows count from 0)"
                if given is None or len(set(given)) < len(given):
                    raise DataError(
                        f"{here}: found {rows[config.label][row]!r}, expected a list of labels, "
                        "none twice; or 0 or 1 for each label in every row"
                    )
                for label in given:
                    number = number_of(label, labels, own)
                    if number is None:
                        near = did_you_mean(label, labels) if isinstance(label, str) else ""
                        raise DataError(f"{here}: {label!r} is not among {', '.join(labels)}{near}")
                    present[row, number] = 1
        told = ["; ".join(labels[int(n)] for n in np.flatnonzero(row)) or "none" for row in present]
        return texts, inputs, present, told

    def loss(
        self,
        logits: "torch.Tensor",
        labels: "torch.Tensor",
        *,
        items: Any,
        smoothing: float,
        weights: "torch.Tensor | None" = None,
    ) -> "torch.Tensor":
        """Binary cross-entropy of logits and labels, (micro-batch, labels) both."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        aims = labels.float() * (1 - smoothing) + smoothing / 2
        return binary_cross_entropy_with_logits(logits.float(), aims, reduction="sum") / items

    def decide(self, answers: np.ndarray) -> np.ndarray:
        """Whether each label is given, (labels,)."""
        return _shares(answers)[0] >= self.threshold

    def count(self, answers: Sequence[np.ndarray], split: Split) -> np.ndarray:
        """Count labels (given rightly, given wrongly, missed)."""
        return _count(*self._both(answers, split), axis=1)

    def score(self, answers: Sequence[np.ndarray], split: Split) -> dict[str, float]:
        """F1 over all labels, its mean over labels, rows with all labels right, and loss."""
        given, true = self._both(answers, split)
        logits = np.concatenate(answers).astype(float)
        counts = _count(given, true, axis=0)
        return {
            "micro_f1": float(f1_of(counts.sum(axis=0))),
            "macro_f1": float(f1_of(counts).mean()),
            "exact": float((given == true).all(axis=1).mean()),
            "loss": float((np.logaddexp(0, logits) - true * logits).mean()),
        }

    def break_down(self, answers: Sequence[np.ndarray], split: Split) -> list[dict[str, Any]]:
        """Score each label."""
        given, true = self._both(answers, split)
        counts = _count(given, true, axis=0)
        return [
            {"label": name, "rows": int(sums[0] + sums[2]), **score_sums(sums)}
            for name, sums in zip(split.rows.names, counts, strict=True)
        ]

    def cell_names(self, labels: Sequence[str]) -> list[str]:
        """The labels, and the probability of each."""
        return ["labels", *(f"p_{label}" for label in labels)]

    def tell(self, answers: np.ndarray, given: Any, labels: Sequence[str]) -> Labels:
        """The labels as likely as the threshold, and the probabilities of all."""
        (row,) = _shares(answers)
        kept = [name for name, share in zip(labels, row, strict=True) if share >= self.threshold]
        return Labels(kept, dict(zip(labels, map(float, row), strict=True)))

    def tally(self, labels: np.ndarray, names: Sequence[str]) -> Mapping[str, int]:
        """Rows with each label."""
        return dict(zip(names, labels.sum(axis=0).astype(int).tolist(), strict=True))

    def _both(self, answers: Sequence[np.ndarray], split: Split) -> tuple[np.ndarray, np.ndarray]:
        """What is given and what is true, (rows, labels) both."""
        given = _shares(np.concatenate(answers)) >= self.threshold
        return given, split.rows.labels > 0


def _is_multi_hot(rows: Sequence[list[Any] | None], labels: int) -> bool:
    """Whether every row holds 0 or 1 for each label."""
    return all(
        row is not None
        and len(row) == labels
        and all(type(x) in (int, bool) and x in (0, 1) for x in row)
        for row in rows
    )


def _listed(value: Any) -> list[Any] | None:
    """A row's labels; of a text, those between its semicolons, commas or bars."""
    if isinstance(value, str):
        parts = (part.strip() for part in re.split(r"[;,|]", value))
        return [part for part in parts if part]
    return list(value) if isinstance(value, list) else [] if value is None else None


def _count(given: np.ndarray, true: np.ndarray, *, axis: int) -> np.ndarray:
    """Count (given rightly, given wrongly, missed) over rows, axis 0, or labels, axis 1."""
    sums = [(given & true).sum(axis), (given & ~true).sum(axis), (~given & true).sum(axis)]
    return np.stack(sums, axis=1).astype(float)


def _shares(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(float)))
