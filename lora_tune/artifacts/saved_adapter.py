"""A saved adapter or baseline, loaded for inference."""

from pathlib import Path

from lora_tune.artifacts.saved_baseline import load_baseline_predictor
from lora_tune.artifacts.saved_model import SavedModel, find_model, load_base, load_saved_tokenizer
from lora_tune.data.preprocessing import Preprocessor
from lora_tune.errors import ArtifactError
from lora_tune.evaluation.predictor import Predictor
from lora_tune.evaluation.results import IN_SENTENCE
from lora_tune.lora.adapter import load_adapter_weights


def find_adapter(source: str | Path) -> SavedModel:
    """Find an adapter and verify it; see `find_model`.

    Raises:
        ArtifactError: it is damaged, does not exist, or is a baseline.
    """
    saved = find_model(source)
    if not saved.is_adapter:
        raise ArtifactError(
            f"{saved.name}: found {IN_SENTENCE[saved.manifest.kind]}, which has no LoRA weights, "
            "expected an adapter"
        )
    return saved


def load_adapter(source: str | Path, *, base: str | None = None) -> Predictor:
    """Load a verified adapter or baseline, and the base model where it needs one, for inference.

    Args:
        source: its directory, or a Hub ID, `owner/name` or `owner/name@revision`.
        base: where its base model is; None for the place that the manifest names.

    Raises:
        ArtifactError: it is damaged or incomplete, or the base model is another one.
        ModelError: its base model cannot be found.
    """
    return load_predictor(find_model(source), base)


def load_predictor(saved: SavedModel, base: str | None = None) -> Predictor:
    """Load an adapter or a baseline that has been verified; see `load_adapter`."""
    if not saved.is_adapter:
        return load_baseline_predictor(saved, base)
    model, tokenizer, _ = load_base(saved, base)
    adapted = load_adapter_weights(model, saved.folder)
    return Predictor(
        adapted,
        tokenizer,
        saved.task,
        saved.manifest.labels,
        saved.generation,
        saved.data,
    )


def load_preprocessor(saved: SavedModel) -> Preprocessor:
    """Load what turns rows into inputs, without a model."""
    tokenizer = load_saved_tokenizer(saved.folder) if saved.manifest.base else None
    return Preprocessor(saved.task, saved.data, tokenizer)
