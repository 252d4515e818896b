"""LLaMA-Factory: its stage for plain texts, packed."""

import json
import sys
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path

from work import read_rows, read_work, report, step_teller, trainer_arguments

# It imports torchaudio, which PyPI has for CUDA alone; texts have no need of it.
sys.modules["torchaudio"] = module_from_spec(ModuleSpec("torchaudio", None))
from llamafactory.train.tuner import run_exp  # noqa: E402

work = read_work()
data = Path(work.folder) / "data"
data.mkdir()
texts = [{"text": row["text"]} for row in read_rows(work.train)]
(data / "reviews.json").write_text(json.dumps(texts))
told = {"file_name": "reviews.json", "columns": {"prompt": "text"}}
(data / "dataset_info.json").write_text(json.dumps({"reviews": told}))
arguments = trainer_arguments(work) | {
    "model_name_or_path": work.base,
    "stage": "pt",
    "do_train": True,
    "finetuning_type": "lora",
    "lora_rank": work.rank,
    "lora_alpha": work.alpha,
    "lora_target": ",".join(work.modules),
    "dataset": "reviews",
    "dataset_dir": str(data),
    "cutoff_len": work.max_length,
    "packing": True,
    "bf16": True,
    "disable_gradient_checkpointing": True,
}
run_exp(arguments, callbacks=[step_teller()])
results = json.loads((Path(work.folder) / "train_results.json").read_text())
report(
    "llamafactory",
    train_seconds=results["train_runtime"],
    settings="bf16, packing; a stand-in for torchaudio",
)
