"""Named entities: a BIO tag for each word, told as spans of the text."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.encoding import WORD_IDS, encode
from lora_tune.entities import (
    OUTSIDE,
    Entities,
    cut_words,
    describe_tags,
    fill_words,
    find_entities,
    join_words,
    words_of,
)
from lora_tune.errors import DataError
from lora_tune.metrics import ENTITY_F1, Measure, cross_entropy, f1_of, score_sums, softmax
from lora_tune.recipe import DataConfig
from lora_tune.rows import Split
from lora_tune.suggestions import did_you_mean
from lora_tune.tasks.task import IGNORED, Rival, token_loss
from lora_tune.texts import ROW, number_of, own_names, text_fault

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

PRIOR = 1.0  # rows' worth of all words' tags, beside a word's own


@dataclass(frozen=True)
class TokenClassification:
    """What sets this task apart from others. An input is {text, words: [[start, end], ...]}."""

    name: str = "token_classification"
    auto_class: str = "AutoModelForTokenClassification"
    peft_task_type: str = "TOKEN_CLS"
    collator: str = "DataCollatorForTokenClassification"
    measure: Measure = ENTITY_F1
    metrics: tuple[str, ...] = ("entity_f1", "precision", "recall", "word_accuracy")
    falling: tuple[str, ...] = ()
    problem_type: None = None
    has_head: bool = True
    has_classes: bool = False
    linear: None = None  # a row has several answers
    pipeline: str = "token-classification"
    pipeline_options: str = ', aggregation_strategy="first"'
    purpose: str = "to find entities ({labels})"
    limits: str = "Entities of other kinds are not found."

    def columns(self, config: DataConfig) -> list[tuple[str, str]]:
        """The words and their tags."""
        return [("text", config.text), ("label", config.label)]

    def known_labels(self, config: DataConfig) -> list[str] | None:
        """Those that the recipe names."""
        return config.labels

    def find_labels(self, rows: "Dataset", config: DataConfig) -> list[str]:
        """Name the tags in the order of their numbers: the recipe's, the column's, or those found.

        Raises:
            DataError: a tag is not of the form O, B-TYPE or I-TYPE.
        """
        names = config.labels or own_names(rows, config.label)
        if names is None:
            found = {str(tag) for tags in rows[config.label] for tag in tags or ()}
            names = sorted(found, key=lambda tag: (tag != OUTSIDE, tag[2:], tag))
        wrong = [name for name in names if name != OUTSIDE and name[:2] not in ("B-", "I-")]
        if wrong or OUTSIDE not in names:
            raise DataError(
                f"data.label: column {config.label!r} holds the tags {', '.join(names[:6])}; "
                f"expected {OUTSIDE}, B-TYPE and I-TYPE; numbers are named by data.labels"
            )
        return list(names)

    def read_rows(
        self, rows: "Dataset", config: DataConfig, labels: Sequence[str], *, where: str
    ) -> tuple[list[str], list[Any], np.ndarray, list[str]]:
        """Read words and tag numbers, an array of arrays (words,)."""
        if config.truncation_side == "left":
            raise DataError("data.truncation_side: left would cut first words; expected right")
        own_order = own_names(rows, config.label)
        inputs, tags, told = [], [], []
        columns = zip(rows[ROW], rows[config.text], rows[config.label], strict=True)
        for place, words, own in columns:
            numbers = [number_of(tag, labels, own_order) for tag in own or ()]
            fault = _fault(words, own, numbers, labels)
            if fault:
                raise DataError(f"{where}: row {place} (rows count from 0): {fault}")
            given = join_words(words)
            inputs.append(given)
            tags.append(np.array(numbers))
            told.append(describe_tags(given, [labels[number] for number in tags[-1]]).label)
        ragged = np.empty(len(tags), dtype=object)
        ragged[:] = tags
        return [given["text"] for given in inputs], inputs, ragged, told

    def encode(
        self,
        inputs: Sequence[Any],
        labels: np.ndarray | None,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
    ) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Tokenise words; each word's first piece bears its tag, and all others are ignored."""
        columns, counts = encode(inputs, tokenizer, max_length)
        for i, ids in enumerate(columns[WORD_IDS]):
            gaps = set(range(max(ids, default=-1))) - set(ids)
            if gaps:  # words of which the tokenizer leaves nothing, such as joiners
                again, _ = encode([fill_words(inputs[i], gaps)], tokenizer, max_length)
                for name, values in again.items():
                    columns[name][i] = values[0]
        places = columns.pop(WORD_IDS)
        columns["labels"] = [
            [
                IGNORED
                if word < 0 or (at and ids[at - 1] == word)
                else 0
                if labels is None
                else int(labels[i][word])
                for at, word in enumerate(ids)
            ]
            for i, ids in enumerate(places)
        ]
        return columns, counts

    def asked_columns(self, config: DataConfig) -> list[str]:
        """The words."""
        return [config.text]

    def take_row(
        self, row: Mapping[str, Any], config: DataConfig, tokenizer: "PreTrainedTokenizerBase"
    ) -> Any:
        """Cut a text into words and punctuation, or take a list of words as it is."""
        text = row[config.text]
        words = text if isinstance(text, list) and text else [text]
        fault = next(filter(None, map(text_fault, words)), None)
        if fault:
            raise DataError(fault)
        return cut_words(text) if isinstance(text, str) else join_words(words)

    def encode_training(
        self,
        inputs: Sequence[Any],
        labels: np.ndarray,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
    ) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Tokenise training rows as all others."""
        return self.encode(inputs, labels, tokenizer, max_length)

    def loss(
        self,
        logits: "torch.Tensor",
        labels: "torch.Tensor",
        *,
        items: Any,
        smoothing: float,
        weights: "torch.Tensor | None" = None,
    ) -> "torch.Tensor":
        """Cross-entropy of logits (micro-batch, tokens, tags) and labels (micro-batch, tokens)."""
        return token_loss(logits, labels, items=items, smoothing=smoothing)

    def read(self, logits: "torch.Tensor", labels: "torch.Tensor | None") -> list[np.ndarray]:
        """Keep the logits of each word's first piece, (words, tags) for each row."""
        assert labels is not None
        return [
            row[kept != IGNORED].cpu().numpy() for row, kept in zip(logits, labels, strict=True)
        ]

    def decide(self, answers: np.ndarray) -> np.ndarray:
        """Each word's likeliest tag's number, (words,)."""
        return answers.argmax(axis=1)

    def count(self, answers: Sequence[np.ndarray], split: Split) -> np.ndarray:
        """Count entities (found rightly, found wrongly, missed)."""
        return np.array([_count(own, found) for own, found in _both(answers, split)], dtype=float)

    def score(self, answers: Sequence[np.ndarray], split: Split) -> dict[str, float]:
        """Entity F1, precision and recall over all entities; accuracy and loss over words."""
        true, false, missed = self.count(answers, split).sum(axis=0)
        logits = np.concatenate(answers)
        labels = np.concatenate(
            [own[: len(row)] for own, row in zip(split.rows.labels, answers, strict=True)]
        )  # of the words that were not cut off
        return {
            "entity_f1": float(f1_of(np.array([true, false, missed]))),
            "precision": true / (true + false) if true + false else 0.0,
            "recall": true / (true + missed) if true + missed else 0.0,
            "word_accuracy": float((logits.argmax(axis=1) == labels).mean()),
            "loss": cross_entropy(logits, labels),
        }

    def break_down(self, answers: Sequence[np.ndarray], split: Split) -> list[dict[str, Any]]:
        """Score each type of entity."""
        pairs = list(_both(answers, split))
        types = sorted({name[2:] for name in split.rows.names if name != OUTSIDE})
        rows = []
        for kind in types:
            only = [
                ({e for e in own if e[0] == kind}, {e for e in found if e[0] == kind})
                for own, found in pairs
            ]
            sums = np.array([_count(own, found) for own, found in only]).sum(axis=0)
            entities = int(sums[0] + sums[2])
            rows.append({"type": kind, "entities": entities, **score_sums(sums)})
        return rows

    def cell_names(self, labels: Sequence[str]) -> list[str]:
        """The spans."""
        return ["entities"]

    def tell(self, answers: np.ndarray, given: Any, labels: Sequence[str]) -> Entities:
        """The spans that a row's tags mean."""
        shares = softmax(answers) if len(answers) else answers
        tags = [labels[number] for number in self.decide(answers)]
        return describe_tags(given, tags, shares.max(axis=1) if len(shares) else None)

    def answer_without_model(self, train: Split, test: Split) -> Mapping[str, Rival]:
        """Give each word the tag that it has most often in train, and others the commonest of all.

        Its numbers are logarithms of (word's tag count + PRIOR * tag's share) / (count + PRIOR).
        """
        counts: dict[str, Counter[int]] = defaultdict(Counter)
        for given, tags in zip(train.rows.inputs, train.rows.labels, strict=True):
            for word, tag in zip(words_of(given), tags, strict=True):
                counts[word.casefold()][int(tag)] += 1
        names = range(len(train.rows.names))
        total = np.array([sum(tags[number] for tags in counts.values()) for number in names])
        shares = (total + 1) / (total + 1).sum()
        answers = []
        for row, given in enumerate(test.rows.inputs):
            kept = sum(label != IGNORED for label in test.encoded[row]["labels"])
            told = [counts.get(word.casefold(), Counter()) for word in words_of(given)[:kept]]
            own = np.array([[tags[number] for number in names] for tags in told], dtype=float)
            own = own.reshape(-1, len(names))
            answers.append(
                np.log((own + PRIOR * shares) / (own.sum(axis=1, keepdims=True) + PRIOR))
            )
        size = sum(map(len, counts.values()))
        return {"words": Rival(answers, size, "each word's commonest tag in train")}

    def tally(self, labels: np.ndarray, names: Sequence[str]) -> Mapping[str, int]:
        """Entities of each type."""
        begun = Counter(
            kind for tags in labels for kind, *_ in find_entities([names[n] for n in tags])
        )
        types = dict.fromkeys(name[2:] for name in names if name != OUTSIDE)
        return {kind: begun[kind] for kind in types}


def _both(answers: Sequence[np.ndarray], split: Split) -> Iterator[tuple[set[Any], set[Any]]]:
    """The entities that are in each row, and those found in it; words cut off are outside any."""
    names = split.rows.names
    for own, row in zip(split.rows.labels, answers, strict=True):
        tags = [names[number] for number in row.argmax(axis=1)] if len(row) else []
        yield set(find_entities([names[n] for n in own])), set(find_entities(tags))


def _count(own: set[Any], found: set[Any]) -> tuple[int, int, int]:
    return len(own & found), len(found - own), len(own - found)


def _fault(
    words: Any, tags: Any, numbers: Sequence[int | None], labels: Sequence[str]
) -> str | None:
    if not isinstance(words, list) or not words or not isinstance(tags, list):
        return f"found {words!r:.40} with tags {tags!r:.40}, expected a list of words and of tags"
    if len(words) != len(tags):
        return f"found {len(words)} words and {len(tags)} tags"
    for word in words:
        if text_fault(word):
            return f"among its words: {text_fault(word)}"
    for tag, number in zip(tags, numbers, strict=True):
        if number is None:
            near = did_you_mean(tag, labels) if isinstance(tag, str) else ""
            return f"the tag {tag!r} is not among {', '.join(labels)}{near}"
    return None
