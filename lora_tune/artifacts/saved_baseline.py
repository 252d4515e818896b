"""The files of a baseline, written and read: settings and terms as JSON, arrays as safetensors."""

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lora_tune.artifacts.manifest import BASELINE_FILE, BASELINE_WEIGHTS_FILE, read_json
from lora_tune.artifacts.saved_model import SavedModel, load_base
from lora_tune.config.redaction import redact
from lora_tune.errors import ArtifactError, first_line
from lora_tune.evaluation.baseline_predictor import BaselinePredictor
from lora_tune.evaluation.fitted_baselines import (
    NGRAM_RANGE,
    FittedBaseline,
    TfidfFeatures,
    restore_baseline,
)
from lora_tune.evaluation.linear_models import ConstantModel
from lora_tune.system.environment import library_versions

# How texts become terms and terms become numbers; the code that reads a file must do the same.
TFIDF_SETTINGS = {
    "words": "Unicode word boundaries, case folded",
    "ngram_range": list(NGRAM_RANGE),
    "sublinear_tf": True,
    "norm": "l2",
}
LIBRARIES = ("numpy", "regex", "scikit-learn")  # that compute the features


@dataclass(frozen=True)
class BaselineFiles:
    """What the files of a baseline hold."""

    fitted: FittedBaseline
    constant: ConstantModel  # of the same training rows, to compare with


def write_baseline_files(folder: Path, files: BaselineFiles, kind: str) -> int:
    """Write the settings and the arrays of a baseline to a directory that exists.

    Args:
        folder: of the baseline.
        files: what to write.
        kind: of the baseline, as in its manifest.

    Returns:
        The size of both files in bytes.
    """
    from safetensors.numpy import save_file

    fitted, constant = files.fitted, files.constant
    versions = library_versions()
    content: dict[str, Any] = {
        "kind": kind,
        "strength": fitted.strength,
        "classes": fitted.model.class_count,
        "constant": asdict(constant) | {"output": constant.output.tolist()},
        "versions": {name: versions[name] for name in LIBRARIES if name in versions}
        | {"unicode": unicodedata.unidata_version},
    }
    if isinstance(fitted.features, TfidfFeatures):
        content |= {"settings": TFIDF_SETTINGS, "terms": fitted.features.terms}
    else:
        content |= {"pooling": fitted.features.pooling}
    text = json.dumps(content, ensure_ascii=False) + "\n"
    (folder / BASELINE_FILE).write_text(redact(text), encoding="utf-8")
    arrays = {name: np.ascontiguousarray(array) for name, array in fitted.tensors().items()}
    save_file(arrays, folder / BASELINE_WEIGHTS_FILE)
    # safetensors lets only the owner read its files.
    (folder / BASELINE_WEIGHTS_FILE).chmod((folder / BASELINE_FILE).stat().st_mode)
    names = (BASELINE_FILE, BASELINE_WEIGHTS_FILE)
    return sum((folder / name).stat().st_size for name in names)


def read_baseline_files(folder: Path) -> BaselineFiles:
    """Read the settings and the arrays of a baseline that has been verified.

    Raises:
        ArtifactError: they were written by another version, or do not fit each other.
    """
    from safetensors.numpy import load_file

    path = folder / BASELINE_FILE
    content: Mapping[str, Any] = read_json(path)
    if content.get("settings", TFIDF_SETTINGS) != TFIDF_SETTINGS:
        raise ArtifactError(
            f"{path}: found the settings {content['settings']}, expected {TFIDF_SETTINGS}; it was "
            "written by another version of lora_tune"
        )
    try:
        fitted = restore_baseline(
            load_file(folder / BASELINE_WEIGHTS_FILE),
            terms=content.get("terms"),
            pooling=content.get("pooling"),
            strength=content["strength"],
            class_count=content["classes"],
        )
        constant = content["constant"] | {"output": np.array(content["constant"]["output"])}
        return BaselineFiles(fitted, ConstantModel(**constant))
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise ArtifactError(f"{path}: damaged: {first_line(error)}") from None


def load_baseline_predictor(saved: SavedModel, base: str | None = None) -> BaselinePredictor:
    """Load a baseline that has been verified, and the base model of a linear probe.

    Args:
        saved: the baseline.
        base: where the base model is; None for the place that the manifest names.

    Raises:
        ArtifactError: the files do not fit each other, or the base model is another one.
        ModelError: the base model cannot be found.
    """
    fitted = read_baseline_files(saved.folder).fitted
    model = tokenizer = None
    if saved.manifest.base is not None:
        model, tokenizer, _ = load_base(saved, base)
    return BaselinePredictor(
        model,
        tokenizer,
        saved.task,
        saved.manifest.labels,
        data=saved.data,
        fitted=fitted,
    )
