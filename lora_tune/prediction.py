"""Labels and probabilities for texts, from a model at hand or a saved adapter."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora_tune.adapter import load_adapter_weights, read_adapter_config
from lora_tune.base import find_base
from lora_tune.batching import make_collator
from lora_tune.data import encode
from lora_tune.environment import find_device
from lora_tune.errors import ArtifactError, DataError
from lora_tune.evaluation import predict_logits
from lora_tune.metrics import softmax
from lora_tune.model import load_model
from lora_tune.recipe import ModelConfig
from lora_tune.sources import read_file
from lora_tune.suggestions import did_you_mean
from lora_tune.tasks import TASKS

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Prediction:
    """What a model says of one text."""

    label: str
    probabilities: dict[str, float]  # of each label


@dataclass(frozen=True)
class Classifier:
    """A model that classifies texts, with everything it needs to do so."""

    model: "Module"
    tokenizer: "PreTrainedTokenizerBase"  # truncates to its model_max_length
    labels: list[str]

    def predict(self, texts: Sequence[str], *, title: str = "") -> list[Prediction]:
        """Classify texts, one prediction each, in their order.

        Args:
            title: of a progress bar; empty for none.

        Raises:
            DataError: a text is empty.
        """
        if not texts:
            return []
        _check_texts(texts, "texts")
        columns, _ = encode(texts, self.tokenizer, self.tokenizer.model_max_length)
        logits = predict_logits(
            self.model,
            columns,
            collate=make_collator(self.tokenizer),
            title=title,
        )
        return [
            Prediction(
                self.labels[row.argmax()], dict(zip(self.labels, map(float, row), strict=True))
            )
            for row in softmax(logits)
        ]


def load_adapter(folder: Path) -> Classifier:
    """Load an adapter directory and the base model it names, for inference.

    Raises:
        ArtifactError: the adapter is damaged or incomplete.
        ModelError: its base model cannot be found.
    """
    from transformers import AutoTokenizer

    config, labels = read_adapter_config(folder)
    tasks = {task.peft_task_type: task for task in TASKS.values()}
    task_type = config.get("task_type")
    if task_type not in tasks:
        raise ArtifactError(
            f"{folder}: its task_type is {task_type!r}, expected {', '.join(tasks)}"
        )
    task = tasks[task_type]
    model_config = ModelConfig(
        name=config["base_model_name_or_path"], revision=config.get("revision")
    )
    base = find_base(model_config)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError, KeyError, AttributeError, TypeError) as error:
        line = str(error).splitlines()[0]
        raise ArtifactError(f"{folder}: its tokenizer is damaged: {line}") from None
    model, _, _ = load_model(base, model_config, task=task, labels=labels, tokenizer=tokenizer)
    return Classifier(load_adapter_weights(model, folder).to(find_device()), tokenizer, labels)


def read_texts(path: Path, column: str) -> list[str]:
    """Read the texts of a csv, tsv, json, jsonl or parquet file.

    Raises:
        DataError: the file or its column is not there, or a row holds no text.
    """
    rows = read_file(path)
    if column not in rows.column_names:
        near = did_you_mean(column, rows.column_names)
        raise DataError(
            f"{path}: has no column {column!r}{near}; it has {', '.join(rows.column_names)}; "
            "name it with --column"
        )
    texts = list(rows[column])
    _check_texts(texts, f"{path}: column {column!r}")
    return texts


def check_output(path: Path, given: Path | None) -> None:
    """Refuse a place where predictions cannot be written, before they are made.

    Raises:
        DataError: it is no csv or jsonl file, lies in no folder, or is the input itself.
    """
    if path.suffix not in (".csv", ".jsonl"):
        raise DataError(f"--output {path}: expected a .csv or .jsonl file")
    if path.is_dir() or not path.parent.is_dir():
        raise DataError(f"--output {path}: expected a file in a folder that is there")
    if given is not None and given.exists() and path.exists() and path.samefile(given):
        raise DataError(f"--output {path}: is the input; name another file")


def write_predictions(path: Path, texts: Sequence[str], predictions: Sequence[Prediction]) -> None:
    """Write label and probabilities beside each text, as csv or jsonl by the file's suffix."""
    rows = [
        {"text": text, "label": p.label, **{f"p_{k}": v for k, v in p.probabilities.items()}}
        for text, p in zip(texts, predictions, strict=True)
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _check_texts(texts: Sequence[object], where: str) -> None:
    for row, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            empty = text is None or isinstance(text, str)
            found = "nothing" if empty else f"{text!r}"
            raise DataError(f"{where}, row {row} (rows count from 0): found {found}, expected text")
