"""Metrics of texts against reference texts: ROUGE, BLEU, exact match and F1 of words."""

import re
import string
from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import get_args

import numpy as np
import regex

from lora_tune.config.generation import TextMetric
from lora_tune.data.rows import Split
from lora_tune.data.segmentation import find_alphanumeric_words, fold, has_word_spaces
from lora_tune.errors import DataError
from lora_tune.metrics.metric import Metric, mean_from_sums

TEXT_METRIC_NAMES: tuple[str, ...] = get_args(TextMetric)
ROUGE = ("rouge1", "rouge2", "rougeL")
MAX_NGRAM = 4  # words in the longest n-grams of BLEU
ARTICLES = re.compile(r"\b(a|an|the)\b")
MAX_UNDEFINED_SHARE = 0.1  # of the references, for which a metric is not defined
NOT_LATIN = regex.compile(r"[\p{L}--\p{Script=Latin}]", regex.VERSION1)
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def bleu_from_sums(sums: np.ndarray) -> np.ndarray:
    """Compute corpus BLEU, from 0 to 1.

    Source: Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation".

    Args:
        sums: (..., 10), counts of `text_metric_counts` summed over rows.
    """
    from sacrebleu.metrics import BLEU

    def score(sums: np.ndarray) -> float:
        counts = [round(number) for number in sums.tolist()]
        matching, generated = counts[:MAX_NGRAM], counts[MAX_NGRAM : 2 * MAX_NGRAM]
        return float(BLEU.compute_bleu(matching, generated, *counts[2 * MAX_NGRAM :]).score / 100)

    return np.apply_along_axis(score, -1, sums)


TEXT_METRICS = {
    name: Metric(name, bleu_from_sums if name == "bleu" else mean_from_sums)
    for name in TEXT_METRIC_NAMES
}


def text_metric_counts(texts: Sequence[str], references: Sequence[str]) -> dict[str, np.ndarray]:
    """Count what each text adds to each metric that is defined for the references.

    ROUGE is the F1 of the rouge_score package without stemming, and with words of any script, which
    in ASCII texts are those of its default tokenizer; BLEU is that of sacrebleu with its 13a
    tokenizer; exact match ignores leading and trailing whitespace.

    Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries"; Papineni et al.
    2002, "BLEU: a Method for Automatic Evaluation of Machine Translation"; Post 2018, "A Call for
    Clarity in Reporting BLEU Scores" (sacrebleu).

    Args:
        texts: generated, one for each row.
        references: one for each row.

    Returns:
        Metric -> (rows, counts). For ROUGE and exact match, the counts are (score, 1). For BLEU
        they are the matching n-grams of 1 to 4 words, the generated n-grams of 1 to 4 words, the
        words of the text and the words of the reference: 10 counts.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU

    undefined = undefined_metrics(references)
    rouge = RougeScorer(ROUGE, tokenizer=SimpleNamespace(tokenize=find_alphanumeric_words))
    bleu = BLEU(effective_order=True)
    counts: dict[str, list[list[float]]] = {name: [] for name in TEXT_METRIC_NAMES}
    for text, reference in zip(texts, references, strict=True):
        counts["exact_match"].append([text.strip() == reference.strip(), 1])
        for name, score in rouge.score(reference, text).items():
            counts[name].append([score.fmeasure, 1])
        score = bleu.sentence_score(text, [reference])
        counts["bleu"].append([*score.counts, *score.totals, score.sys_len, score.ref_len])
    return {
        name: np.array(rows, dtype=float) for name, rows in counts.items() if name not in undefined
    }


def undefined_metrics(references: Sequence[str]) -> dict[str, str]:
    """Find the metrics that are not defined for the script of references.

    Returns:
        Metric -> why.
    """
    without_words = sum(not find_alphanumeric_words(text) for text in references)
    without_spaces = sum(not has_word_spaces(text) for text in references)
    undefined = {}
    if without_words > MAX_UNDEFINED_SHARE * len(references):
        why = f"{without_words} of {len(references)} completions have no letter, digit or emoji"
        undefined = dict.fromkeys(ROUGE, why)
    if without_spaces > MAX_UNDEFINED_SHARE * len(references):
        undefined["bleu"] = (
            f"{without_spaces} of {len(references)} completions are in a script without spaces "
            "between words, such as Chinese or Thai"
        )
    return undefined


def check_text_metrics(metric: str | None, split: Split) -> list[str]:
    """Check which metrics of generated texts are defined for the completions of a split.

    Args:
        metric: the recipe's metric of generated texts; None where no texts are generated.
        split: of the completions.

    Returns:
        Warnings about metrics that are not computed.

    Raises:
        DataError: the recipe's metric is not defined for the completions.
    """
    if metric is None:
        return []
    undefined = undefined_metrics(split.rows.label_texts)
    if metric in undefined:
        others = [name for name in ("rougeL", "exact_match") if name not in undefined]
        raise DataError(
            f"generation.metric: {metric} is not defined for the completions of "
            f"{split.rows.name}: {undefined[metric]}; use {' or '.join(others)}"
        )
    reasons = dict.fromkeys(undefined.values())
    return [
        f"{', '.join(name for name in undefined if undefined[name] == why)} not computed: {why}."
        for why in reasons
    ]


def score_answer(answer: str, references: Sequence[str]) -> tuple[float, float]:
    """Score an answer to a question by the reference that it is closest to.

    Case, punctuation and articles do not count. In scripts without spaces between words, each
    character is a word. Where nothing else is left of one of the two
    texts, as where a question has no answer, F1 is exact match.

    Source: Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1; Rajpurkar et al. 2018, arXiv
    1806.03822, for questions without an answer.

    Args:
        answer: empty where the question has none.
        references: at least one.

    Returns:
        F1 of the words, and exact match, 0 or 1.
    """
    scores = [_compare_words(_answer_words(answer), _answer_words(own)) for own in references]
    return max(f1 for f1, _ in scores), max(exact for _, exact in scores)


def _answer_words(text: str) -> list[str]:
    plain = ARTICLES.sub(" ", fold(text).translate(WITHOUT_PUNCTUATION))
    return find_alphanumeric_words(plain) if NOT_LATIN.search(plain) else plain.split()


def _compare_words(found: list[str], true: list[str]) -> tuple[float, float]:
    exact = float(found == true)
    shared = (Counter(found) & Counter(true)).total()
    return 2 * shared / (len(found) + len(true)) if found and true else exact, exact
