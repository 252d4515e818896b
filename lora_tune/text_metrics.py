"""Texts that a model wrote against those that should stand there: ROUGE, BLEU, exact match."""

import re
from collections.abc import Sequence
from typing import get_args

import numpy as np

from lora_tune.errors import DataError
from lora_tune.metrics import MEASURES, Measure, mean_of
from lora_tune.recipe import TextMetric
from lora_tune.rows import Split

TEXT_METRICS: tuple[str, ...] = get_args(TextMetric)
ROUGE = ("rouge1", "rouge2", "rougeL")
ORDERS = 4  # of BLEU's n-grams


def bleu_of(sums: np.ndarray) -> np.ndarray:
    """Corpus BLEU, from 0 to 1, of counts (..., 10); see `count_texts`."""
    from sacrebleu.metrics import BLEU

    def score(sums: np.ndarray) -> float:
        whole = [round(number) for number in sums.tolist()]
        matched, found = whole[:ORDERS], whole[ORDERS : 2 * ORDERS]
        return float(BLEU.compute_bleu(matched, found, *whole[2 * ORDERS :]).score / 100)

    return np.apply_along_axis(score, -1, sums)


TEXT_MEASURES = {
    name: Measure(name, bleu_of if name == "bleu" else mean_of) for name in TEXT_METRICS
}


def find_measure(name: str) -> Measure:
    """Look up what a comparison was decided by."""
    return (MEASURES | TEXT_MEASURES)[name]


def count_texts(texts: Sequence[str], references: Sequence[str]) -> dict[str, np.ndarray]:
    """Count what each text adds to each metric.

    ROUGE's F1 is that of the rouge_score package without stemming, BLEU's that of sacrebleu with
    its 13a tokens; a match is exact but for blanks around it.

    Returns:
        Metric -> (rows, counts): (F1 or match, 1) for a mean over rows; for BLEU the n-grams of
        1 to 4 words that match, those that were written, and the words of text and reference.

    Source: Lin 2004, ROUGE; Papineni et al. 2002, BLEU; Post 2018, arXiv 1804.08771 (sacrebleu).
    """
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU

    rouge, bleu = RougeScorer(ROUGE), BLEU(effective_order=True)
    counts: dict[str, list[list[float]]] = {name: [] for name in TEXT_METRICS}
    for text, reference in zip(texts, references, strict=True):
        counts["exact_match"].append([text.strip() == reference.strip(), 1])
        for name, score in rouge.score(reference, text).items():
            counts[name].append([score.fmeasure, 1])
        found = bleu.sentence_score(text, [reference])
        counts["bleu"].append([*found.counts, *found.totals, found.sys_len, found.ref_len])
    return {name: np.array(rows, dtype=float) for name, rows in counts.items()}


def check_references(metric: str | None, split: Split) -> None:
    """Refuse ROUGE for texts that it does not read.

    Raises:
        DataError: most of the references hold no Latin letter and no digit.
    """
    references = split.rows.label_texts
    unread = sum(not re.search("[a-z0-9]", text.lower()) for text in references)
    if metric in ROUGE and 2 * unread > len(references):
        raise DataError(
            f"generation.metric: {metric} reads Latin letters and digits alone, and {unread} of "
            f"{len(references)} completions of {split.rows.name} hold none; use bleu or exact_match"
        )
