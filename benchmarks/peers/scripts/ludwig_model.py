"""Ludwig: a text encoder with LoRA and a category as output."""

import os
import sys
import time
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from typing import Any

import pandas
import torch

from benchmarks.peers.job import Job, read_job, read_rows, report_result

# It imports torchvision and torchaudio, of which PyPI has builds for CUDA only; texts do not need
# them.
operators = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    operators.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
sys.modules["torchaudio"] = module_from_spec(ModuleSpec("torchaudio", None))
vars(sys.modules["torchaudio"])["__version__"] = "2.11.0"
from ludwig.api import LudwigModel  # noqa: E402


def configure(job: Job) -> dict[str, Any]:
    """Make Ludwig's configuration."""
    encoder = {
        "type": "auto_transformer",
        "pretrained_model_name_or_path": job.base,
        "trainable": True,
        "adapter": {"type": "lora", "r": job.rank, "alpha": job.alpha},
    }
    text = {"name": "text", "type": "text", "encoder": encoder}
    text |= {"preprocessing": {"max_sequence_length": job.max_length}}
    return {
        "input_features": [text],
        "output_features": [{"name": "label", "type": "category"}],
        "preprocessing": {"split": {"type": "random", "probabilities": [0.9, 0.1, 0.0]}},
        "trainer": {
            "epochs": job.epochs,
            "batch_size": job.batch,
            "learning_rate": job.learning_rate,
        },
    }


job = read_job()
os.chdir(job.folder)  # where it caches preprocessed rows
rows = pandas.DataFrame(read_rows(job.train))
model = LudwigModel(configure(job))
start = time.perf_counter()
model.train(dataset=rows, output_directory=job.folder, random_seed=job.seed)
seconds = time.perf_counter() - start
predicted, _ = model.predict(dataset=pandas.DataFrame(read_rows(job.test)))
report_result(
    "ludwig",
    train_seconds=seconds,
    settings="its defaults otherwise; torchvision and torchaudio replaced by empty modules",
    predictions=predicted["label_predictions"].astype(int).tolist(),
)
