"""The best baseline, saved beside an adapter that does not beat it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lora_tune.artifacts.adapter_writer import record_training
from lora_tune.artifacts.baseline_card import write_baseline_card
from lora_tune.artifacts.manifest import CARD_FILE, Kind, record_arrays, write_manifest
from lora_tune.artifacts.reload_check import RecordedOutputs, ReloadCheck, record_baseline_outputs
from lora_tune.artifacts.saved_baseline import BaselineFiles, write_baseline_files
from lora_tune.config.redaction import redact
from lora_tune.evaluation.baselines import Baselines
from lora_tune.evaluation.comparison import Comparison
from lora_tune.evaluation.linear_baselines import fit_constant
from lora_tune.evaluation.results import TFIDF, Keep
from lora_tune.models.tokenizer import save_tokenizer
from lora_tune.run_context import RunContext


@dataclass(frozen=True)
class KeptBaseline:
    """A baseline that was saved."""

    name: str  # of the system
    size_bytes: int  # of its settings and weights
    outputs: RecordedOutputs  # for the reload check
    reload: ReloadCheck | None = None  # once it has passed

    def to_json(self) -> dict[str, Any]:
        """What comparison.json holds about it."""
        reload = None if self.reload is None else asdict(self.reload)
        return {"name": self.name, "bytes": self.size_bytes, "reload": reload}


def save_best_baseline(
    folder: Path,
    context: RunContext,
    baselines: Baselines,
    *,
    comparison: Comparison,
    keep: Keep,
) -> KeptBaseline | None:
    """Save the best baseline, where it can be saved and LoRA is not significantly better.

    Args:
        folder: a new directory for it.
        context: of the run.
        baselines: of the run.
        comparison: of LoRA with the baselines.
        keep: `lora` to save none.

    Returns:
        The baseline; None where none is saved.
    """
    result = next((r for r in baselines.results if r.name == comparison.best_baseline), None)
    if keep == "lora" or comparison.beats_best_baseline or result is None or result.fitted is None:
        return None
    kind: Kind = "tfidf" if result.name == TFIDF else "linear_probe"
    folder.mkdir()
    files = BaselineFiles(result.fitted, fit_constant(context.data, context.task))
    size_bytes = write_baseline_files(folder, files, kind)
    if kind == "linear_probe":
        save_tokenizer(context.tokenizer, folder, context.task)
    card = write_baseline_card(context, comparison, result)
    (folder / CARD_FILE).write_text(redact(card), encoding="utf-8")
    tensors = record_arrays(result.fitted.tensors())
    training = record_training(context, result.evaluation.task)
    write_manifest(folder, training=training, tensors=tensors, kind=kind)
    inputs = context.data.test.rows.inputs
    outputs = record_baseline_outputs(
        result.fitted, result.evaluation, inputs, is_rounded=context.recipe.model.is_rounded
    )
    return KeptBaseline(result.name, size_bytes, outputs)
