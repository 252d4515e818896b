"""LLaMA-Factory: its stage for plain texts, packed."""

import json
import sys
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path

from benchmarks.peers.job import (
    progress_callback,
    read_job,
    read_rows,
    report_result,
    trainer_arguments,
)

# It imports torchaudio, of which PyPI has builds for CUDA only; texts do not need it.
sys.modules["torchaudio"] = module_from_spec(ModuleSpec("torchaudio", None))
from llamafactory.train.tuner import run_exp  # noqa: E402

job = read_job()
data = Path(job.folder) / "data"
data.mkdir()
texts = [{"text": row["text"]} for row in read_rows(job.train)]
(data / "reviews.json").write_text(json.dumps(texts))
description = {"file_name": "reviews.json", "columns": {"prompt": "text"}}
(data / "dataset_info.json").write_text(json.dumps({"reviews": description}))
arguments = trainer_arguments(job) | {
    "model_name_or_path": job.base,
    "stage": "pt",
    "do_train": True,
    "finetuning_type": "lora",
    "lora_rank": job.rank,
    "lora_alpha": job.alpha,
    "lora_target": ",".join(job.modules),
    "dataset": "reviews",
    "dataset_dir": str(data),
    "cutoff_len": job.max_length,
    "packing": True,
    "bf16": True,
    "disable_gradient_checkpointing": True,
}
run_exp(arguments, callbacks=[progress_callback()])
results = json.loads((Path(job.folder) / "train_results.json").read_text())
report_result(
    "llamafactory",
    train_seconds=results["train_runtime"],
    settings="bf16, packing; torchaudio replaced by an empty module",
)
