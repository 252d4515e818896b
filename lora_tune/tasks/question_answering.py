"""Extractive question answering: the span of a text that answers a question about it (SQuAD)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_tune.config.data import DataConfig
from lora_tune.data.batching import IGNORE_INDEX
from lora_tune.data.rows import RowBatch, Split
from lora_tune.data.spans import CHARACTERS, END, START, read_spans, tokenize_spans, unpack_labels
from lora_tune.data.table import Table
from lora_tune.errors import DataError, RowError
from lora_tune.metrics.classification import cross_entropy, softmax
from lora_tune.metrics.entities import Span
from lora_tune.metrics.metric import Metric, mean_from_sums
from lora_tune.metrics.text import score_answer
from lora_tune.tasks.task import OutputKind
from lora_tune.tasks.text_inputs import TextLabelTask, read_inputs

if TYPE_CHECKING:
    from torch import Tensor

F1 = Metric("f1", mean_from_sums)
MAX_TOKENS = 30  # of an answer. Source: Devlin et al. 2018, run_squad.py, max_answer_length


@dataclass(frozen=True)
class QuestionAnswering(TextLabelTask):
    """The answer to a question, `text`, which is a span of a text, `text_pair`, or is empty.

    The label of each token of the text holds its characters and flags: FLAGS * (CHARACTERS *
    start + end), + START where the answer starts in it, + END where it ends. The row's first token
    stands for no answer; all others are ignored. Outputs are those tokens' logits of start and end,
    start and end over CHARACTERS, and flags of 0 or 1: (tokens, 6).
    """

    name: str = "question_answering"
    auto_class: str = "AutoModelForQuestionAnswering"
    data_keys: tuple[str, ...] = ("text_pair",)
    required_keys: tuple[str, ...] = ("text_pair",)
    peft_task_type: str = "QUESTION_ANS"
    collator: str = "DataCollatorForTokenClassification"
    output_kind: OutputKind = "span"
    primary_metric: Metric = F1
    metric_names: tuple[str, ...] = ("f1", "exact_match")

    def labels(self, config: DataConfig, tables: Sequence[Table] = ()) -> list[str]:
        """List the outputs of the head."""
        return ["start", "end"]

    def read(self, rows: Table, config: DataConfig, labels: Sequence[str]) -> Iterator[RowBatch]:
        """Read pairs of question and text, and the answers of each as spans of the text."""
        cells, first = rows.column(config.label), 0
        for texts, inputs in read_inputs(rows, config):
            contexts = [given["text_pair"] for given in inputs]
            spans = np.empty(len(texts), dtype=object)
            for i, cell in enumerate(cells[first : first + len(texts)]):
                try:
                    spans[i] = read_spans(cell, contexts[i])
                except DataError as error:
                    raise RowError(first + i, f"column {config.label!r}: {error}") from None
            first += len(texts)
            answers = [text[slice(*own[0])] for text, own in zip(contexts, spans, strict=True)]
            yield RowBatch(texts, inputs, spans, [answer or "none" for answer in answers])

    def tokenize(
        self, inputs: Sequence[Any], labels: Any, tokenizer: Any, max_length: int
    ) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Tokenize questions and texts; of a pair that is too long, the longer one is truncated."""
        # PEFT's model for question answering does not pass token types on, so there are none.
        pairs = [(given["text"], given["text_pair"]) for given in inputs]
        answers = None if labels is None else [spans[0] for spans in labels]
        return tokenize_spans(pairs, answers, tokenizer, max_length)

    def logits(self, model_output: Any) -> "Tensor":
        """Stack the logits of start and end, (rows, tokens, 2)."""
        import torch

        return torch.stack([model_output.start_logits, model_output.end_logits], dim=-1)

    def is_counted(self, labels: "Tensor") -> "Tensor":
        """Count each row once, where its answer starts."""
        return labels & START > 0

    def loss(
        self,
        logits: "Tensor",
        labels: "Tensor",
        *,
        items: Any,
        smoothing: float,
        weights: Any = None,
    ) -> "Tensor":
        """Compute the mean cross-entropy of start and end: logits (rows, tokens, 2)."""
        kept = (labels != IGNORE_INDEX).unsqueeze(-1)
        answer = labels.unsqueeze(-1) & labels.new_tensor([START, END]) > 0
        logs = logits.float().masked_fill(~kept, -np.inf).log_softmax(dim=1)
        true = logs.where(answer, 0).sum(dim=1)  # (rows, 2)
        mean = logs.where(kept, 0).sum(dim=1) / kept.sum(dim=1)
        nats = ((smoothing - 1) * true - smoothing * mean) * answer.any(dim=1)
        return nats.sum() / (2 * max(items, 1))

    def extract_outputs(self, logits: Any, labels: Any) -> list[np.ndarray]:
        """Extract the outputs, (tokens, 6), of the tokens that are not ignored."""
        import torch

        rows = torch.cat([logits, unpack_labels(labels)], dim=-1)
        kept = labels != IGNORE_INDEX
        return [row[own].cpu().numpy() for row, own in zip(rows, kept, strict=True)]

    def metric_counts(self, outputs: Sequence[np.ndarray], split: Split) -> np.ndarray:
        """Count (F1, 1, exact match)."""
        counts = []
        for row, given, spans in zip(outputs, split.rows.inputs, split.rows.labels, strict=True):
            answers = [given["text_pair"][slice(*span)] for span in spans]
            f1, exact = score_answer(self.format(row, given, ()).text, answers)
            counts.append((f1, 1, exact))
        return np.array(counts)

    def compute_metrics(self, outputs: Sequence[np.ndarray], split: Split) -> dict[str, float]:
        """Compute F1, exact match, and the loss of rows whose answer is not truncated."""
        f1, rows, exact = self.metric_counts(outputs, split).sum(axis=0)
        answered = [row.T for row in outputs if row[:, 4].any()]
        losses = [cross_entropy(row[:2], row[4:].argmax(axis=1)) for row in answered]
        loss = sum(losses) / max(len(losses), 1)
        return {"f1": f1 / rows, "exact_match": exact / rows, "loss": loss}

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """The first and the last token of the most probable span, (2,)."""
        ends = np.pad(outputs[:, 1], (0, MAX_TOKENS - 1), constant_values=-np.inf)
        scores = outputs[:, :1] + np.lib.stride_tricks.sliding_window_view(ends, MAX_TOKENS)
        scores[0, 1:] = -np.inf
        first, more = divmod(int(scores.argmax()), MAX_TOKENS)
        return np.array([first, first + more])

    def format(self, outputs: np.ndarray, given: Any, labels: Sequence[str]) -> Span:
        """The most probable span, with the product of the probabilities of its start and end."""
        ends = self.decide(outputs)
        start, end = (outputs[ends, [2, 3]] * CHARACTERS).astype(int).tolist()
        text = given["text_pair"][start:end].strip()  # some tokens begin with a space
        start = given["text_pair"].find(text, start)
        probability = softmax(outputs[:, :2].T)[[0, 1], ends].prod()
        return Span("answer", text, start, start + len(text), float(probability))

    def prediction_columns(self, labels: Sequence[str]) -> list[str]:
        """The answer, its place and its probability."""
        return ["answer", "start", "end", "probability"]
