"""Named entities: a BIO tag for each word, returned as spans of the text."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.config.data import DataConfig
from lora_tune.data.arrow_store import BATCH_ROWS
from lora_tune.data.batching import IGNORE_INDEX
from lora_tune.data.columns import text_problem
from lora_tune.data.labels import LabelIds
from lora_tune.data.list_cells import parse_list
from lora_tune.data.rows import RowBatch, Split
from lora_tune.data.table import Table
from lora_tune.data.tokenization import WORD_IDS, tokenize_texts
from lora_tune.data.words import join_words, mask_words, split_words
from lora_tune.errors import DataError, RowError
from lora_tune.metrics.classification import cross_entropy, softmax
from lora_tune.metrics.entities import (
    OUTSIDE,
    Entities,
    count_entities,
    entities_from_tags,
    entities_in_text,
    entity_metrics,
)
from lora_tune.metrics.metric import ENTITY_F1, Metric, precision_recall_f1
from lora_tune.tasks.task import OutputKind, Task
from lora_tune.tasks.token_loss import token_loss

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TokenClassification(Task):
    """A BIO tag for each word. An input is {text, words: [[start, end], ...]}."""

    name: str = "token_classification"
    auto_class: str = "AutoModelForTokenClassification"
    data_keys: tuple[str, ...] = ("labels",)
    peft_task_type: str = "TOKEN_CLS"
    collator: str = "DataCollatorForTokenClassification"
    output_kind: OutputKind = "tags"
    primary_metric: Metric = ENTITY_F1
    metric_names: tuple[str, ...] = ("entity_f1", "precision", "recall", "word_accuracy")

    def columns(self, config: DataConfig, *, labeled: bool = True) -> list[tuple[str, str]]:
        """The words, and their tags."""
        return [("text", config.text), *([("label", config.label)] if labeled else [])]

    def labels(self, config: DataConfig, tables: Sequence[Table] = ()) -> list[str] | None:
        """List the recipe's tags, the column's own, or those found in the rows.

        Raises:
            DataError: a tag is not of the form O, B-TYPE or I-TYPE.
        """
        if not tables:
            return config.labels
        names = config.labels or tables[0].class_names.get(config.label)
        if names is None:
            cells = (cell for table in tables for cell in table.column(config.label))
            found = {str(tag) for cell in cells for tag in parse_list(cell) or ()}
            names = sorted(found, key=lambda tag: (tag != OUTSIDE, tag[2:], tag))
        wrong = [name for name in names if name != OUTSIDE and name[:2] not in ("B-", "I-")]
        if wrong or OUTSIDE not in names:
            raise DataError(
                f"data.label: column {config.label!r} has the tags {', '.join(names[:6])}; "
                f"expected {OUTSIDE}, B-TYPE and I-TYPE; name integer tags in data.labels"
            )
        return list(names)

    def read(self, rows: Table, config: DataConfig, labels: Sequence[str]) -> Iterator[RowBatch]:
        """Read words and tag ids, an array of arrays (words,)."""
        if config.truncation_side == "left":
            raise DataError("data.truncation_side: left would cut first words; expected right")
        column_names = rows.class_names.get(config.label)
        lists = map(parse_list, rows.column(config.label))
        texts = {str(tag) for tags in lists for tag in tags or ()}
        lookup = LabelIds(labels, texts, named=config.labels, column_names=column_names)
        columns = zip(rows.column(config.text), rows.column(config.label), strict=True)
        for first in range(0, len(rows), BATCH_ROWS):
            inputs, tags, written = [], [], []
            for number, cells in enumerate(islice(columns, BATCH_ROWS), start=first):
                try:
                    words, ids = _read_words(*cells, lookup)
                except DataError as error:
                    raise RowError(number, str(error)) from None
                given = join_words(words)
                inputs.append(given)
                tags.append(np.array(ids))
                written.append(entities_in_text(given, [labels[n] for n in ids]).label)
            ragged = np.empty(len(tags), dtype=object)
            ragged[:] = tags
            yield RowBatch([given["text"] for given in inputs], inputs, ragged, written)

    def preprocess_row(
        self, row: Mapping[str, Any], config: DataConfig, tokenizer: "PreTrainedTokenizerBase"
    ) -> Any:
        """Split a text into words and punctuation, or take a list of words as it is."""
        text = row[config.text]
        if isinstance(text, str):
            text = parse_list(text) or text
        words = text if isinstance(text, list) and text else [text]
        problem = next(filter(None, map(text_problem, words)), None)
        if problem:
            raise DataError(problem)
        return split_words(text) if isinstance(text, str) else join_words(words)

    def label_counts(self, labels: np.ndarray, names: Sequence[str]) -> Mapping[str, int]:
        """Count the entities of each type."""
        counts = Counter(
            kind for tags in labels for kind, *_ in entities_from_tags([names[n] for n in tags])
        )
        types = dict.fromkeys(name[2:] for name in names if name != OUTSIDE)
        return {kind: counts[kind] for kind in types}

    def tokenize(
        self,
        inputs: Sequence[Any],
        labels: np.ndarray | None,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
    ) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Tokenize words; each word's first token bears its tag, and all others are ignored."""
        columns, counts = tokenize_texts(inputs, tokenizer, max_length)
        for i, ids in enumerate(columns[WORD_IDS]):
            gaps = set(range(max(ids, default=-1))) - set(ids)
            if gaps:  # words of which the tokenizer leaves nothing, such as joiners
                again, _ = tokenize_texts([mask_words(inputs[i], gaps)], tokenizer, max_length)
                for name, values in again.items():
                    columns[name][i] = values[0]
        word_ids = columns.pop(WORD_IDS)
        columns["labels"] = [
            [
                IGNORE_INDEX
                if word < 0 or (at and ids[at - 1] == word)
                else 0
                if labels is None
                else int(labels[i][word])
                for at, word in enumerate(ids)
            ]
            for i, ids in enumerate(word_ids)
        ]
        return columns, counts

    def loss(
        self,
        logits: "torch.Tensor",
        labels: "torch.Tensor",
        *,
        items: Any,
        smoothing: float,
        weights: "torch.Tensor | None" = None,
    ) -> "torch.Tensor":
        """Compute the cross-entropy of logits (rows, tokens, tags) and labels (rows, tokens)."""
        return token_loss(logits, labels, items=items, smoothing=smoothing)

    def extract_outputs(
        self, logits: "torch.Tensor", labels: "torch.Tensor | None"
    ) -> list[np.ndarray]:
        """Keep the logits of each word's first token, (words, tags) for each row."""
        assert labels is not None
        return [
            row[kept != IGNORE_INDEX].cpu().numpy()
            for row, kept in zip(logits, labels, strict=True)
        ]

    def metric_counts(self, outputs: Sequence[np.ndarray], split: Split) -> np.ndarray:
        """Count entities (true positives, false positives, false negatives)."""
        pairs = _true_and_predicted(outputs, split)
        return np.array([count_entities(*pair) for pair in pairs], dtype=float)

    def compute_metrics(self, outputs: Sequence[np.ndarray], split: Split) -> dict[str, float]:
        """Compute F1, precision and recall over entities, and accuracy and loss over words."""
        sums = self.metric_counts(outputs, split).sum(axis=0)
        logits = np.concatenate(outputs)
        labels = np.concatenate(
            [own[: len(row)] for own, row in zip(split.rows.labels, outputs, strict=True)]
        )  # of the words that were not truncated
        return entity_metrics(sums) | {
            "word_accuracy": float((logits.argmax(axis=1) == labels).mean()),
            "loss": cross_entropy(logits, labels),
        }

    def metrics_by_group(self, outputs: Sequence[np.ndarray], split: Split) -> list[dict[str, Any]]:
        """Compute precision, recall and F1 of each entity type."""
        pairs = list(_true_and_predicted(outputs, split))
        rows = []
        for kind in sorted({name[2:] for name in split.rows.label_names if name != OUTSIDE}):
            counts = [
                count_entities({e for e in true if e[0] == kind}, {e for e in own if e[0] == kind})
                for true, own in pairs
            ]
            sums = np.array(counts).sum(axis=0)
            entities = int(sums[0] + sums[2])
            rows.append({"type": kind, "entities": entities, **precision_recall_f1(sums)})
        return rows

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """The id of each word's most probable tag, (words,)."""
        return outputs.argmax(axis=1)

    def format(self, outputs: np.ndarray, given: Any, labels: Sequence[str]) -> Entities:
        """The spans that a row's tags mean."""
        shares = softmax(outputs) if len(outputs) else outputs
        tags = [labels[number] for number in self.decide(outputs)]
        return entities_in_text(given, tags, shares.max(axis=1) if len(shares) else None)

    def prediction_columns(self, labels: Sequence[str]) -> list[str]:
        """The spans."""
        return ["entities"]


def _true_and_predicted(
    outputs: Sequence[np.ndarray], split: Split
) -> Iterator[tuple[set[Any], set[Any]]]:
    """The true and the predicted entities of each row; truncated words are predicted as outside."""
    names = split.rows.label_names
    for own, row in zip(split.rows.labels, outputs, strict=True):
        tags = [names[number] for number in row.argmax(axis=1)] if len(row) else []
        yield set(entities_from_tags([names[n] for n in own])), set(entities_from_tags(tags))


def _read_words(text: str, label: str, lookup: LabelIds) -> tuple[list[str], list[int]]:
    words, tags = parse_list(text), parse_list(label)
    if not words or tags is None:
        raise DataError(
            f"found {text!r:.40} with tags {label!r:.40}, expected a list of words and of tags"
        )
    if len(words) != len(tags):
        raise DataError(f"found {len(words)} words and {len(tags)} tags")
    for word in words:
        if text_problem(word):
            raise DataError(f"among its words: {text_problem(word)}")
    ids = []
    for tag in map(str, tags):
        number = lookup.find(tag)
        if number is None:
            raise DataError(f"the tag {tag!r} is not among {lookup.describe(tag)}")
        ids.append(number)
    return words, ids
