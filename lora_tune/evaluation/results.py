"""The systems of a comparison: baselines, other trainings and LoRA, each with its result."""

from dataclasses import dataclass
from typing import Literal

from lora_tune.evaluation.fitted_baselines import FittedBaseline
from lora_tune.evaluation.model_evaluation import Evaluation

MAJORITY, CONSTANT, LEAD = "majority", "constant", "lead"
TFIDF, TAGS, BASE, LINEAR_PROBE = "tfidf", "most_frequent_tag", "base", "linear_probe"
LAST_LAYERS, FULL, LORA = "last_layers", "full", "lora"

TITLES = {
    MAJORITY: "majority class",
    CONSTANT: "constant prediction",
    LEAD: "beginning of the prompt",
    TFIDF: "TF-IDF",
    TAGS: "most frequent tag",
    BASE: "base model",
    LINEAR_PROBE: "linear probe",
    LAST_LAYERS: "last layers",
    FULL: "full fine-tuning",
    LORA: "LoRA",
}
IN_SENTENCE = {
    MAJORITY: "the majority class",
    CONSTANT: "the constant prediction",
    LEAD: "the beginning of the prompt",
    TFIDF: "the TF-IDF baseline",
    TAGS: "the most-frequent-tag baseline",
    BASE: "the base model",
    LINEAR_PROBE: "the linear probe",
    LAST_LAYERS: "fine-tuning the last layers",
    FULL: "full fine-tuning",
    LORA: "LoRA",
}
Keep = Literal["best", "lora"]  # best: also the best baseline, where LoRA does not beat it
KEPT = (TFIDF, LINEAR_PROBE)  # baselines that a run can save
COSTLY = {LAST_LAYERS, FULL, LORA}  # trained like the adapter; the others take seconds


@dataclass(frozen=True)
class Result:
    """One system evaluated on the test rows, and what it cost."""

    name: str
    evaluation: Evaluation  # on the test rows
    trained_parameters: int | None  # None where it was trained elsewhere
    train_seconds: float | None
    note: str = ""  # what was chosen, and how it was trained
    fitted: FittedBaseline | None = None  # what can be saved of a baseline
